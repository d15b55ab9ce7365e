"""Who acts while data is collected: at random, by a function of the user's, or as an agent that has been trained.

Whoever acts does so for several episodes at once, which are in step with each other and end one by one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.messages import first_line
from core.training.order import stream
from decision.environments.spaces import Space


class Actors(Protocol):
    """Those who act in B episodes, from their first step to the last."""

    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...) on raw observations (B, ...); rewards (B,) are of the actions before, None at first."""

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these of the episodes only, in this order."""


Behaviour = Callable[[Sequence[int]], Actors]
"""Who acts in the episodes of these seeds; all chance comes from the seeds."""


class RandomActors:
    """Uniform actions, or as Gymnasium draws them where they are not bounded; one stream of chance an episode."""

    def __init__(self, space: Space, seeds: Sequence[int]):
        self.spaces = [space.gym() for _ in seeds]
        for here, seed in zip(self.spaces, seeds, strict=True):
            here.seed(int(stream(seed, "actions").random_raw() >> 33))  # the seed itself is the environment's

    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...), whatever is observed."""
        return np.stack([space.sample() for space in self.spaces])

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with some of the episodes."""
        self.spaces = [self.spaces[row] for row in rows]


class FunctionActors:
    """A function from one raw observation to one action; continuous ones are cut off at their bounds."""

    def __init__(self, name: str, function: Callable[[Any], Any], space: Space):
        self.name, self.function, self.space = name, function, space
        self.gym = space.gym()

    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...). Raises ValueError for what is no action of the environment."""
        return np.stack([self._one(observation) for observation in observations])

    def keep(self, rows: Sequence[int]) -> None:
        """A function remembers no episodes."""

    def _one(self, observation: NDArray[Any]) -> NDArray[Any]:
        given = self.function(observation)
        try:
            action = np.asarray(given).reshape(self.space.shape)
            if self.space.kind == "box":
                action = np.clip(action.astype(self.space.dtype), *self.space.bounds()).astype(self.space.dtype)
            fits = self.gym.contains(action if self.space.shape else action[()])
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise ValueError(f"{self.name} gave {given!r}, which is no action of {self.space}")
        return action


def import_function(name: str) -> Callable[[Any], Any]:
    """The function that `module:name` says, looked for in the current folder too.

    Raises ValueError of one sentence if it cannot be imported or is no function.
    """
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module of the user's raises what it likes
        raise ValueError(
            f"policy = {name!r} cannot be imported: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not callable(function):
        raise ValueError(f"policy = {name!r} is no function of an observation, but {function!r}")
    return function


def find_behaviour(policy: str, space: Space) -> Behaviour:
    """Who acts under a name: `random`, or `module:function`.

    Raises ValueError of one sentence for anything else.
    """
    if policy == "random":
        return lambda seeds: RandomActors(space, seeds)
    if ":" in policy and not Path(policy).exists():
        function = import_function(policy)
        return lambda seeds: FunctionActors(policy, function, space)
    known = "random, ppo, sac, module:function, an agent.zip or .pt, a run folder of decision.train"
    raise ValueError(f"policy = {policy!r} is not one of: {known}")
