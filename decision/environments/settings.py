"""How an environment is made beyond its id: what a data set keeps of the one that it was recorded in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any

from core.messages import first_line

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

LIMIT = "max_episode_steps"
"""Gymnasium's name of the limit of steps, which may be named among the arguments."""
WITHOUT_EFFECT = (
    *("OrderEnforcing", "PassiveEnvChecker", "RecordVideo", "RecordEpisodeStatistics", "HumanRendering"),
    "RenderCollection",
)
"""Wrappers that change nothing that a policy observes, which are not made again."""
WORDS = {"True": True, "False": False, "None": None}


@dataclass(frozen=True)
class WrapperSettings:
    """A wrapper around an environment."""

    name: str
    entry_point: str
    """Its class: module:Class."""
    kwargs: dict[str, Any] | None
    """Its keyword arguments, as JSON values; None where it does not tell them."""


@dataclass(frozen=True)
class EnvSettings:
    """What Gymnasium's `make` is told beside the id."""

    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments, as JSON values, beside the registered ones."""
    max_steps: int | None = None
    """Steps after which an episode is truncated; None = as registered, -1 = never."""
    entry_point: str = ""
    """The class, module:Class, of an environment that is not registered; "" if unknown."""
    wrappers: tuple[WrapperSettings, ...] = ()
    """Wrappers in place of the registered ones, from the inside out."""

    def __post_init__(self) -> None:
        if self.max_steps is not None and self.max_steps < 1 and self.max_steps != -1:
            raise ValueError(f"max_steps = {self.max_steps} must be above 0, or -1 for no limit")
        try:
            json.dumps([self.kwargs, [each.kwargs for each in self.wrappers]], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"kwargs = {self.kwargs} must be JSON values: {first_line(error)}") from error

    def differences(self, other: EnvSettings) -> Iterator[tuple[str, str]]:
        """What differs, as names and "X, not Y"; a limit or an entry point that is unknown fits any."""
        for f in fields(self):
            ours, theirs = getattr(self, f.name), getattr(other, f.name)
            unknown = f.name in ("max_steps", "entry_point") and not (ours and theirs)
            if ours != theirs and not unknown:
                yield f.name, f"{ours}, not {theirs}"

    def with_arguments(self, words: Sequence[str]) -> EnvSettings:
        """The same with the arguments that `parse_arguments` reads."""
        given = parse_arguments(words)
        limit = given.pop(LIMIT, self.max_steps)
        return replace(self, kwargs=self.kwargs | given, max_steps=limit)


AS_REGISTERED = EnvSettings()


def parse_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Words such as `is_slippery=false`: names and JSON values; what is not JSON is text. Raises ValueError."""
    arguments: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name.isidentifier() and equals) or name in arguments or name == "render_mode":
            raise ValueError(f"env_args = {word!r} must be NAME=VALUE, each name once, such as is_slippery=false")
        try:
            arguments[name] = WORDS[value] if value in WORDS else json.loads(value)
        except ValueError:
            arguments[name] = value
    if LIMIT in arguments and not (type(limit := arguments[LIMIT]) is int and (limit > 0 or limit == -1)):
        raise ValueError(f"env_args: {LIMIT} = {limit!r} must be a number of steps above 0, or -1 for no limit")
    return arguments


def settings_of(spec: EnvSpec) -> EnvSettings:
    """The settings in a specification of Gymnasium's, such as a Minari data set has."""
    wrappers = [each for each in spec.additional_wrappers if class_of(each.entry_point) not in WITHOUT_EFFECT]
    return EnvSettings(
        kwargs={name: value for name, value in spec.kwargs.items() if name != "render_mode"},
        max_steps=spec.max_episode_steps or -1,
        entry_point=name_of_class(spec.entry_point),
        wrappers=tuple(WrapperSettings(each.name, each.entry_point, each.kwargs) for each in wrappers),
    )


def name_of_class(entry_point: Any) -> str:
    """An entry point as module:Class; "" for one that is no class at the top of a module."""
    if isinstance(entry_point, str):
        return entry_point
    name = getattr(entry_point, "__qualname__", "<")
    return "" if "<" in name else f"{entry_point.__module__}:{name}"


def class_of(entry_point: str) -> str:
    """The class in module:Class."""
    return entry_point.rpartition(":")[2]


def specification(identifier: str, settings: EnvSettings) -> EnvSpec | None:
    """Gymnasium's specification with these wrappers: the registered one, else that of the entry point; else None.

    Raises ValueError for an entry point or a wrapper that cannot be imported, or is not a class of Gymnasium's: a file
    may name it, and nothing else that a file names may run.
    """
    import gymnasium
    from gymnasium.envs.registration import EnvSpec, WrapperSpec

    module, _, name = identifier.rpartition(":")
    with suppress(ImportError):
        if module:
            import_module(module)
    spec = deepcopy(gymnasium.registry.get(name))
    own = settings.entry_point
    if own and (spec is None or class_of(own) != class_of(name_of_class(spec.entry_point))):
        require_class(own, gymnasium.Env)
        spec = EnvSpec(name, own)
    if spec is not None and settings.wrappers:
        wrappers = [each for each in settings.wrappers if class_of(each.entry_point) not in WITHOUT_EFFECT]
        for each in wrappers:
            require_class(each.entry_point, gymnasium.Wrapper)
            if each.kwargs is None:
                raise ValueError(f"its wrapper {each.name} does not tell its arguments: name an environment with --env")
        spec.additional_wrappers = tuple(WrapperSpec(**vars(each)) for each in wrappers)
    return spec


def require_class(entry_point: str, kind: type) -> None:
    """Raise ValueError unless `module:Class` is a class of this kind."""
    module, _, name = entry_point.partition(":")
    try:
        found = reduce(getattr, name.split("."), import_module(module))
    except Exception as error:  # a user's module may raise anything
        raise ValueError(f"{entry_point!r} cannot be imported: {first_line(error)}") from error
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ValueError(f"{entry_point!r} is not a class of gymnasium.{kind.__name__}")
