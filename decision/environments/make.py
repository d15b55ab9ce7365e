"""Gymnasium's environments by name: made, seeded, and compared with what a model or a data set expects."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from core.messages import first_line, nearest
from core.training.order import stream
from decision.environments.observations import Environment, handled, name_of
from decision.environments.settings import AS_REGISTERED, EnvSettings, name_of_class, specification
from decision.environments.spaces import Space, describe, describe_actions, differences

if TYPE_CHECKING:
    import gymnasium

EXTRAS = ("mujoco", "box2d")
"""Simulators that are extras of this project, by Gymnasium's name of them."""


def make(
    identifier: str,
    settings: EnvSettings = AS_REGISTERED,
    *,
    max_steps: int | None = None,
    longest: int | None = None,
    render_mode: Literal["rgb_array"] | None = None,
) -> Environment:
    """An environment of Gymnasium's; observations that are dictionaries or tuples are flattened to one box.

    identifier: Gymnasium's id, such as `CartPole-v1`, or `module:id` for one that a module registers.
    settings:   its arguments, limit and wrappers, such as a data set keeps.
    max_steps:  steps after which an episode is truncated; default the limit of the settings or of the environment,
    longest:    or this many where it has none.

    Raises ValueError of one sentence: there is no such environment (and the nearest name), or what is to be installed.
    """
    import gymnasium
    from gymnasium import error, spaces
    from gymnasium.wrappers import FlattenObservation, TimeLimit

    from decision.environments.checked import Checked

    rendered = {}  # not every environment accepts these arguments
    if render_mode:  # the camera follows MuJoCo's robots, which Gymnasium 1.4 does not ask for
        rendered = {"render_mode": render_mode} | ({"camera_name": "track"} if is_robot(identifier) else {})
    limit = settings.max_steps if max_steps is None else max_steps
    try:
        with quiet(identifier):
            spec = specification(identifier, settings) or identifier
            arguments = settings.kwargs | rendered
            env = gymnasium.make(spec, max_episode_steps=limit, disable_env_checker=True, **arguments)
    except error.DependencyNotInstalled as missing:
        raise ValueError(f"{identifier} needs a simulator that is not installed: {remedy(missing)}") from missing
    except Exception as failure:  # a constructor may raise anything
        if isinstance(failure, ValueError) or identifier.rpartition(":")[2] in gymnasium.registry:
            given = f" with {settings.kwargs}" if settings.kwargs else ""
            raise ValueError(f"{identifier} cannot be made{given}: {first_line(failure)}") from failure
        known = [] if isinstance(failure, ImportError) else gymnasium.registry
        hint = nearest(identifier, known, otherwise=first_line(failure))
        raise ValueError(f"there is no environment {identifier!r}; {hint}") from failure
    if longest is not None and step_limit(env) is None:
        env = TimeLimit(env, longest)
    nested = isinstance(env.observation_space, (spaces.Dict, spaces.Tuple)) and handled(env.observation_space)
    return Checked(FlattenObservation(env) if nested else env)


@contextmanager
def open_environments(
    identifier: str,
    number: int,
    settings: EnvSettings = AS_REGISTERED,
    *,
    max_steps: int | None = None,
    longest: int | None = None,
) -> Iterator[list[Environment]]:
    """Several environments of one kind, see `make`; they are closed at the end."""
    with ExitStack() as stack:
        opened = (closing(make(identifier, settings, max_steps=max_steps, longest=longest)) for _ in range(number))
        yield [stack.enter_context(environment) for environment in opened]


def is_robot(identifier: str) -> bool:
    """Whether an environment is one of Gymnasium's that MuJoCo simulates."""
    import gymnasium

    known = gymnasium.registry.get(identifier)
    return known is not None and str(known.entry_point).startswith("gymnasium.envs.mujoco")


@contextmanager
def quiet(identifier: str) -> Iterator[None]:
    """Inside, Gymnasium does not warn of old versions, nor MuJoCo (on the terminal and in a file) of old keywords."""
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.filterwarnings("ignore", module="gymnasium")
        if is_robot(identifier) and find_spec("mujoco"):
            mujoco: Any = import_module("mujoco")
            stack.callback(mujoco.set_mju_user_warning, mujoco.get_mju_user_warning())
            mujoco.set_mju_user_warning(lambda message: None)
        yield


def remedy(missing: Exception) -> str:
    """What to install, according to Gymnasium's error."""
    extra = re.search(r"gymnasium\[([\w-]+)\]", str(missing))
    if extra is None:
        return first_line(missing)
    package = f"triptych[{extra[1]}]" if extra[1] in EXTRAS else f"gymnasium[{extra[1]}]"
    return f'pip install "{package}"'


def spaces_of(env: Environment) -> tuple[Space, Space]:
    """The spaces of observations and of actions. Raises ValueError naming it for a space that is not handled."""
    what = "observations"
    try:
        observations, what = describe(shown_space(env)), "actions"
        return observations, describe_actions(env.action_space)
    except ValueError as error:
        raise ValueError(f"{what} of {name_of(env)} are not handled: {error}") from error


def shown_space(env: Environment) -> gymnasium.Space[Any]:
    """The space of observations; where `make` flattens dictionaries or tuples, the space of these."""
    import gymnasium
    from gymnasium import spaces
    from gymnasium.wrappers import FlattenObservation

    inner = env
    while isinstance(inner, gymnasium.Wrapper):
        nested = inner.env.observation_space
        if isinstance(inner, FlattenObservation) and isinstance(nested, (spaces.Dict, spaces.Tuple)):
            return nested if env.observation_space == inner.observation_space else env.observation_space
        inner = inner.env
    return env.observation_space


def require_spaces(env: Environment, observation_space: Space, action_space: Space, whose: str) -> None:
    """Raise ValueError unless an environment has the spaces of `whose` model or data."""
    for what, reason in differences(spaces_of(env), (observation_space, action_space)):
        raise ValueError(f"{what} of {name_of(env)} are {reason} as those of {whose}")


def require_length(env: Environment, longest: int | None) -> None:
    """Raise ValueError when episodes may be longer than a model can handle (None = any length)."""
    limit = step_limit(env)
    if longest is not None and (limit is None or limit > longest):
        lasting = "have no limit of steps" if limit is None else f"last up to {limit} steps"
        other = "without a table of timesteps" if limit is None else "with a larger max_timestep"
        raise ValueError(
            f"episodes of {name_of(env)} {lasting}, the model's table of timesteps ends at {longest}: "
            f"give a limit of at most {longest} steps, or train {other}"
        )


def step_limit(env: Environment) -> int | None:
    """Steps after which an environment cuts episodes off, according to Gymnasium; None if it never does."""
    return None if env.spec is None else env.spec.max_episode_steps


def settings_used(env: Environment, settings: EnvSettings) -> EnvSettings:
    """The settings that make the same environment again, limit and entry point included."""
    entry_point = "" if env.spec is None else name_of_class(env.spec.entry_point)
    return replace(settings, max_steps=step_limit(env) or -1, entry_point=entry_point)


def registered_limit(identifier: str, settings: EnvSettings) -> int:
    """Steps after which an environment would cut episodes off; 0 if it never does, or is not installed."""
    if settings.max_steps is not None:
        return max(0, settings.max_steps)
    try:
        spec = specification(identifier, settings)
    except ValueError:
        return 0
    return 0 if spec is None else spec.max_episode_steps or 0


def full_name(identifier: str, env: Environment) -> str:
    """The name by which `make` makes the same environment again: with its version, and its module if any."""
    module, colon, _ = identifier.rpartition(":")
    return identifier if env.spec is None else f"{module}{colon}{env.spec.id}"


def episode_seed(seed: int, episode: int) -> int:
    """The seed of an episode's `reset`: the same for every policy and target, a new one for every (seed, episode)."""
    return int(stream(seed, "episode", episode).random_raw()) % 2**31
