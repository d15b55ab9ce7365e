"""Observations of an environment as arrays, refused where its space cannot hold them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from decision.environments.spaces import Space, describe, unfit

if TYPE_CHECKING:
    import gymnasium

Environment: TypeAlias = "gymnasium.Env[Any, Any]"


def name_of(env: Environment) -> str:
    """Gymnasium's id of an environment."""
    return "the environment" if env.spec is None else env.spec.id


def handled(space: gymnasium.Space[Any]) -> bool:
    """Whether observations of a space are handled."""
    try:
        return bool(describe(space))
    except ValueError:
        return False


def as_array(
    env: Environment, observation: Any, space: Space, place: Callable[[], str] = lambda: "at some step"
) -> NDArray[Any]:
    """An observation as an array of its own type; place: where it is, for an error.

    Raises ValueError when its shape is not that of its space, or the type of that does not hold its numbers.
    """
    try:
        array = np.asarray(observation)
    except ValueError:  # rows of several lengths
        array = np.array(None)
    if array.shape != space.shape:
        says = f"its observation_space says {space.shape}"
        raise ValueError(f"{name_of(env)} returned an observation of shape {array.shape}, {says}, {place()}")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name_of(env)} returned an observation of {array.dtype}, not of numbers, {place()}")
    if (bad := unfit(array, space)) is not None:
        wrong = f"{array[bad].flat[0]} in an observation, its observation_space says {space}"
        raise ValueError(f"{name_of(env)} returned {wrong}, {place()}")
    return array
