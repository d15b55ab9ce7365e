"""What configurations check about themselves; every error names the field, its value and what is accepted."""

from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`, of the same type as well."""
    if not any(type(choice) is type(value) and choice == value for choice in choices):
        raise ValueError(f"{name} = {value!r} is not one of: {', '.join(map(str, choices))}")


def check_choices(config: object) -> None:
    """Raise ValueError when a field annotated `Literal[...]` holds something else."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            check_choice(name, getattr(config, name), get_args(hint))


def check_positive(config: object, *names: str) -> None:
    """Raise ValueError when a named field is neither None nor above zero."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name} = {value!r} must be above 0")


def check_between(config: object, low: float, high: float, *names: str) -> None:
    """Raise ValueError when a named field is outside [low, high)."""
    for name in names:
        value = getattr(config, name)
        if not low <= value < high:
            raise ValueError(f"{name} = {value!r} must be at least {low:g} and below {high:g}")


def check_at_least(config: object, low: float, *names: str) -> None:
    """Raise ValueError when a named field is below `low`."""
    for name in names:
        value = getattr(config, name)
        if not value >= low:
            raise ValueError(f"{name} = {value!r} must be at least {low:g}")


def unused_fields(config: Any, prefix: str = "") -> dict[str, str]:
    """Dotted names of the fields without effect, each with the reason, as `unused()` of the dataclasses declares them.

    `unused()` maps names of a dataclass's own fields to reasons; a nested dataclass declares its own.
    """
    found = {prefix + name: reason for name, reason in getattr(config, "unused", dict)().items()}
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            found |= unused_fields(value, f"{prefix}{f.name}.")
    return found


def refuse_unused(config: Any) -> None:
    """Raise ValueError when a field that `config.unused()` names holds anything but its default."""
    reasons = config.unused()
    for f in fields(config):
        if f.name in reasons and getattr(config, f.name) != default_of(f):
            raise ValueError(f"{f.name} = {getattr(config, f.name)!r} has no effect: {reasons[f.name]}")


def default_of(field: Field[Any]) -> Any:
    """What a field of a dataclass holds that is not given."""
    return field.default if field.default_factory is MISSING else field.default_factory()
