"""Gymnasium's environments by name: made, seeded, and compared with what a model or a data set knows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.messages import first_line
from core.training.order import stream
from decision.environments.spaces import Space, describe, describe_actions, misfit

if TYPE_CHECKING:
    import gymnasium

EXTRAS = ("mujoco", "box2d")
"""Simulators that are extras of this project, by Gymnasium's name."""


def make(
    identifier: str, *, max_steps: int | None = None, longest: int | None = None, rendered: bool = False
) -> gymnasium.Env[Any, Any]:
    """An environment of Gymnasium's, dictionaries and tuples of observations flattened to one box.

    identifier: Gymnasium's id, as `CartPole-v1`, or `module:id` for one that a module registers.
    max_steps:  steps after which an episode is truncated; default the environment's own limit, if it has one,
    longest:    else this many, if it is given.
    rendered:   whether `render()` gives pictures.

    Raises ValueError of one sentence: there is no such environment (and the nearest name), or what to install.
    """
    import gymnasium
    from gymnasium import error, spaces
    from gymnasium.wrappers import FlattenObservation, TimeLimit

    mode = pictured(identifier) if rendered else {}  # an environment without pictures may not know the words
    try:
        with quiet(identifier):
            env = gymnasium.make(identifier, max_episode_steps=max_steps, disable_env_checker=True, **mode)
    except error.DependencyNotInstalled as missing:
        raise ValueError(f"{identifier} needs a simulator that is not installed: {remedy(missing)}") from missing
    except (error.Error, ImportError, TypeError, OSError) as failure:
        if identifier.rpartition(":")[2] in gymnasium.registry:
            raise ValueError(f"{identifier} cannot be made: {first_line(failure)}") from failure
        close = get_close_matches(identifier, gymnasium.registry, n=1)
        hint = f"did you mean {close[0]!r}?" if close else first_line(failure)
        raise ValueError(f"there is no environment {identifier!r}; {hint}") from failure
    if longest is not None and limit_of(env) is None:
        env = TimeLimit(env, longest)
    return FlattenObservation(env) if isinstance(env.observation_space, (spaces.Dict, spaces.Tuple)) else env


def pictured(identifier: str) -> dict[str, str]:
    """What asks an environment for pictures; a robot of MuJoCo's is followed, from which Gymnasium 1.4 looks away."""
    return {"render_mode": "rgb_array"} | ({"camera_name": "track"} if is_robot(identifier) else {})


def is_robot(identifier: str) -> bool:
    """Whether an environment is one of Gymnasium's that MuJoCo simulates."""
    import gymnasium

    known = gymnasium.registry.get(identifier)
    return known is not None and str(known.entry_point).startswith("gymnasium.envs.mujoco")


@contextmanager
def quiet(identifier: str) -> Iterator[None]:
    """Inside, Gymnasium does not warn of old versions, nor MuJoCo, on the terminal and in a file, of old words."""
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.filterwarnings("ignore", module="gymnasium")
        if is_robot(identifier) and find_spec("mujoco"):
            mujoco: Any = import_module("mujoco")
            stack.callback(mujoco.set_mju_user_warning, mujoco.get_mju_user_warning())
            mujoco.set_mju_user_warning(lambda told: None)
        yield


def remedy(missing: Exception) -> str:
    """What to install, told by Gymnasium's complaint."""
    extra = re.search(r"gymnasium\[([\w-]+)\]", str(missing))
    if extra is None:
        return first_line(missing)
    package = f"triptych[{extra[1]}]" if extra[1] in EXTRAS else f"gymnasium[{extra[1]}]"
    return f'pip install "{package}"'


def spaces_of(env: gymnasium.Env[Any, Any]) -> tuple[Space, Space]:
    """What an environment shows and takes. Raises ValueError naming it for a space that is not handled."""
    what = "observations"
    try:
        observed, what = describe(env.observation_space), "actions"
        return observed, describe_actions(env.action_space)
    except ValueError as error:
        raise ValueError(f"{what} of {name_of(env)} are not handled: {error}") from error


def require_spaces(env: gymnasium.Env[Any, Any], observation_space: Space, action_space: Space, whose: str) -> None:
    """Raise ValueError unless an environment shows and takes what `whose` spaces say."""
    observed, acted = spaces_of(env)
    shown, taken = misfit(observed, observation_space), misfit(acted, action_space, bounds="compared")
    for what, reason in (("observations", shown), ("actions", taken)):
        if reason:
            raise ValueError(f"{what} of {name_of(env)} are {reason} as those of {whose}")


def as_declared(env: gymnasium.Env[Any, Any], observation: Any, space: Space) -> NDArray[Any]:
    """An observation as an array of its own type. Raises ValueError for one that has another shape than its space."""
    seen = np.asarray(observation)
    if seen.shape != space.shape:
        name = name_of(env)
        raise ValueError(f"{name} gave an observation of shape {seen.shape}, its observation_space says {space.shape}")
    return seen


def require_length(env: gymnasium.Env[Any, Any], longest: int | None) -> None:
    """Raise ValueError when episodes may last longer than the `longest` that a model knows (None = any)."""
    limit = limit_of(env)
    if longest is not None and (limit is None or limit > longest):
        lasting = "have no limit of steps" if limit is None else f"last up to {limit} steps"
        other = "without a table of timesteps" if limit is None else "with a larger max_timestep"
        raise ValueError(
            f"episodes of {name_of(env)} {lasting}, the model's table of timesteps ends at {longest}: "
            f"give a limit of at most {longest} steps, or train {other}"
        )


def limit_of(env: gymnasium.Env[Any, Any]) -> int | None:
    """Steps after which an environment cuts episodes off, as far as Gymnasium knows; None if it never does."""
    return None if env.spec is None else env.spec.max_episode_steps


def name_of(env: gymnasium.Env[Any, Any]) -> str:
    """Gymnasium's id of an environment."""
    return "the environment" if env.spec is None else env.spec.id


def full_name(identifier: str, env: gymnasium.Env[Any, Any]) -> str:
    """The name by which `make` finds an environment again that it made: with its version, and its module if any."""
    module, colon, _ = identifier.rpartition(":")
    return identifier if env.spec is None else f"{module}{colon}{env.spec.id}"


def episode_seed(seed: int, episode: int) -> int:
    """The seed of an episode's `reset`: the same for every policy and target, its own for every (seed, episode)."""
    return int(stream(seed, "episode", episode).random_raw()) % 2**31
