"""Dataclasses to plain JSON values and back: exact, and checked against the annotated types."""

import dataclasses
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from core.checks import check_choice
from core.messages import nearest

T = TypeVar("T")

FORMERLY = "formerly"
"""Key in the metadata of a field: the name that it has in older files."""


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested dicts of JSON values (`Path` as str, tuples as lists).

    `from_dict(type(config), to_dict(config)) == config`. Raises ValueError for a value that JSON cannot hold,
    such as an infinite float.
    """
    return {f.name: _encode(getattr(config, f.name), f.name) for f in dataclasses.fields(config)}


def from_dict(cls: type[T], data: Mapping[str, Any], at: str = "") -> T:
    """Builds the dataclass `cls` from `to_dict`'s output; absent keys take their defaults.

    Raises ValueError naming the key (below that of `at`) for an unknown key (and the nearest known one), a missing key
    without a default, or a value of another type; whatever `cls.__post_init__` raises passes through.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{at or cls.__name__} must be an object of named values, got {data!r}")
    prefix = f"{at}." if at else ""
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    renamed = {f.metadata[FORMERLY]: name for name, f in fields.items() if FORMERLY in f.metadata}
    data = {renamed.get(key, key): value for key, value in data.items()}
    for key in data:
        if key not in fields:
            raise ValueError(f"unknown key '{prefix}{key}' of {cls.__name__}; {nearest(key, fields)}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise ValueError(f"missing key '{prefix}{name}' of {cls.__name__}")
    hints = get_type_hints(cls)
    return cls(**{key: _decode(hints[key], value, prefix + key) for key, value in data.items()})


def _encode(value: Any, at: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _encode(getattr(value, f.name), f"{at}.{f.name}") for f in dataclasses.fields(value)}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{at} = {value} cannot be written as JSON; a finite number is needed")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [_encode(item, f"{at}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _encode(item, f"{at}.{key}") for key, item in value.items()}
    raise ValueError(f"{at} = {value!r} cannot be written as JSON")


def _decode(hint: Any, value: Any, at: str) -> Any:
    """`value` as the annotated type `hint`, or ValueError naming `at`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value, at)
    if origin is Literal:
        check_choice(at, value, arguments)
        return value
    if origin in (Union, types.UnionType):
        return _first_that_fits(arguments, value, at)
    if origin in (tuple, list) and isinstance(value, (list, tuple)):
        return _sequence(origin, arguments, value, at)
    if origin is dict and isinstance(value, Mapping):
        return {key: _decode(arguments[1], item, f"{at}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint in (None, type(None)) and value is None:
        return None
    if hint in (bool, int, str) and type(value) is hint:
        return value
    raise ValueError(f"{at} = {value!r} is not of type {getattr(hint, '__name__', hint)}")


def _first_that_fits(members: tuple[Any, ...], value: Any, at: str) -> Any:
    reasons = []
    for member in members:
        try:
            return _decode(member, value, at)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError(reasons[0])


def _sequence(kind: type, arguments: tuple[Any, ...], value: Any, at: str) -> Any:
    if kind is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
        hints = [arguments[0]] * len(value)
    else:
        hints = list(arguments)
    if len(hints) != len(value):
        raise ValueError(f"{at} = {list(value)!r} must hold {len(hints)} values")
    return kind(_decode(hint, item, f"{at}[{i}]") for i, (hint, item) in enumerate(zip(hints, value, strict=True)))
