"""The fields of a dataclass as the options of a command; every mistake is one sentence."""

import argparse
import ast
import contextlib
import dataclasses
import functools
import inspect
import os
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from core.checks import default_of, unused_fields
from core.cli.synonyms import translated
from core.messages import nearest

T = TypeVar("T")

ALONE = "alone"
"""Key in the metadata of a field: the value that its option stands for when no word follows it."""

TEXT = "text"
"""Key in the metadata of a field whose words are text as it stands: it may be empty, and a ~ in it means itself."""
OPTION = "option"
"""Key in the metadata of a field: its option, where that is a word which cannot name a field, such as --class."""
REQUIRED = "required"
"""Key in the metadata of a field that must be given, as its help then says."""


class Parser(argparse.ArgumentParser):
    """Raises ValueError where argparse would print the usage and exit; an option that is not given leaves no value."""

    def __init__(self, **settings: Any):
        super().__init__(allow_abbrev=False, argument_default=argparse.SUPPRESS, **settings)

    def error(self, message: str) -> NoReturn:
        """Raises the message of argparse."""
        raise ValueError(message.removeprefix("argument "))


class OneOrSeveral(argparse.Action):
    """One word as itself, several as a tuple."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        setattr(namespace, self.dest, values[0] if len(values) == 1 else tuple(values))


def parse_fields(default: T, arguments: Sequence[str], *, prog: str = "", description: str = "") -> T:
    """The dataclass `default` with what `--field VALUE ...` sets in it; underscores and hyphens are the same.

    Raises ValueError of one sentence; exits with 0 after `--help`.
    """
    return with_fields(default, given_fields(default, arguments, prog=prog, description=description))


def given_fields(
    default: object, arguments: Sequence[str], *, prog: str = "", description: str = "", shown: Sequence[str] = ()
) -> dict[str, Any]:
    """What a command line sets: values of fields, by their dotted names. Raises and exits as `parse_fields` does.

    shown: the fields that `--help` lists; default all.
    """
    lines = argparse.RawDescriptionHelpFormatter if "\n" in description else argparse.HelpFormatter
    needed = [f"{flag(f.name)} {f.name.upper()} " for f in dataclasses.fields(default) if REQUIRED in f.metadata]  # type: ignore[arg-type]
    usage = f"{prog} {''.join(needed)}[--field VALUE ...]"
    parser = Parser(prog=prog or None, usage=usage, description=description, formatter_class=lines)
    flags = list(_add(default, parser, parser, shown))
    given, rest = parser.parse_known_args([normalised(word) for word in arguments])
    if rest:
        raise ValueError(_unknown(rest[0], flags))
    return {name: tuple(value) if isinstance(value, list) else value for name, value in vars(given).items()}


def with_fields(config: T, given: Mapping[str, Any]) -> T:
    """`config` with the fields of those dotted names replaced; ValueError for one that then has no effect."""
    try:
        changed = _replaced(config, given)
    except ValueError:  # perhaps about a field that another one leaves without effect
        _refuse_unused(_as_far_as_valid(config, given), given)
        raise
    _refuse_unused(changed, given)
    return changed


def _as_far_as_valid(config: T, given: Mapping[str, Any]) -> T:
    """`config` with those parts of what is given that can be set: a part is all that has the same first name."""
    for part in dict.fromkeys(name.partition(".")[0] for name in given):
        same = {name: value for name, value in given.items() if name.partition(".")[0] == part}
        with contextlib.suppress(ValueError):
            config = _replaced(config, same)
    return config


def _refuse_unused(config: object, given: Mapping[str, Any]) -> None:
    for field, reason in unused_fields(config).items():
        for name in given:
            if name == field or name.startswith(f"{field}."):
                raise ValueError(f"{flag(name)} has no effect: {reason}")


def run_folder(argv: list[str], command: str) -> tuple[Path, list[str]]:
    """The run folder that begins a command line, and the rest of it. Raises ValueError when there is none."""
    if argv and argv[0] in ("-h", "--help"):
        return Path(), argv
    if not argv or argv[0].startswith("-"):
        raise ValueError(f"name the run folder first: python -m {command} DIR [options]")
    return named_path(argv[0], "DIR"), argv[1:]


def named_path(word: str, what: str) -> Path:
    """A word of a command line as a path, ~ being the home folder. Raises ValueError for an empty word."""
    try:
        return Path(_nonempty(word))
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{what}: {error}") from error


def program() -> list[str]:
    """What follows `python` in the command that started this process, without its arguments: -m text.train, say."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return ["-m", spec.name.removesuffix(".__main__")] if spec else [sys.argv[0]]


def normalised(word: str) -> str:
    """`--batch_size=4` as `--batch-size=4`, and -1e-3, which argparse would take for an option, as -0.001."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name.replace("_", "-") + equals + value
    return f"{Decimal(word):f}" if re.fullmatch(r"-[\d.]+[eE][-+]?\d+", word) else word


def flag(name: str) -> str:
    """The option of a dotted field name."""
    return "--" + name.replace("_", "-")


def _add(config: Any, parser: Parser, group: Any, shown: Sequence[str], prefix: str = "") -> Iterator[str]:
    """Adds an option for every field, in groups by the dataclass that holds it; yields the options."""
    cls: type = type(config)
    hints = get_type_hints(cls)
    for f in dataclasses.fields(config):
        name, value = prefix + f.name, getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from _add(value, parser, parser.add_argument_group(name), shown, f"{name}.")
        elif settings := _reading(hints[f.name]):
            if ALONE in f.metadata:
                settings |= {"nargs": "?", "const": f.metadata[ALONE]}
            if TEXT in f.metadata:
                settings["type"] = str
            text = f"{_docstrings(cls).get(f.name, '')} ({_shown(f, value)})".replace("%", "%%")
            text = text if not shown or name in shown else argparse.SUPPRESS
            option = f.metadata.get(OPTION, flag(name))
            group.add_argument(option, dest=name, help=text, **settings)
            yield option


def _shown(f: dataclasses.Field[Any], value: Any) -> str:
    """What the help says of the value that a field has when it is not given."""
    if REQUIRED in f.metadata:
        return "required"
    if value in (None, "", (), Path()):
        return "default: none"
    return f"default: {' '.join(map(str, value)) if isinstance(value, tuple) else value}"


def _reading(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of an annotated type; nothing for a type that cannot be written as words."""
    origin, members = get_origin(hint), get_args(hint)
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if origin is Literal:
        return {"choices": members}
    if origin is tuple and (element := _reading(members[0])):
        return element | ({"nargs": "*", "action": "extend"} if members[1] is Ellipsis else {"nargs": len(members)})
    if members == (str, tuple[str, ...]):
        return {"type": _nonempty, "metavar": "NAME", "nargs": "+", "action": OneOrSeveral}
    if members[:2] == (int, tuple[int, int]):
        whole = _or_none(_integer) if type(None) in members else _integer
        return {"type": whole, "metavar": "INT", "nargs": "+", "action": OneOrSeveral}
    if origin in (Union, types.UnionType) and members[1:] == (type(None),) and (inner := _reading(members[0])):
        return inner | {"type": _or_none(inner["type"])}
    readers: dict[Any, Callable[[str], Any]] = {int: _integer, float: float, str: _nonempty, Path: _path}
    return {"type": readers[hint], "metavar": hint.__name__.upper()} if hint in readers else {}


def _nonempty(word: str) -> str:
    """A name or a path, ~ being the home folder."""
    if not word.strip():
        raise argparse.ArgumentTypeError(f"{word!r} is empty, and names nothing; was a variable not set?")
    return os.path.expanduser(word)


def _path(word: str) -> Path:
    return Path(_nonempty(word))


def _integer(word: str) -> int:
    """A whole number, also as 1e3 or 2.5e6."""
    try:
        return int(word)
    except ValueError:
        value = Decimal(word) if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE]\+?\d{1,2})?", word) else Decimal("nan")
        if not value.is_finite() or value != value.to_integral_value():
            raise argparse.ArgumentTypeError(f"invalid int value: {word!r}") from None
        return int(value)


def _or_none(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def read_optional(word: str) -> Any:
        return None if word == "None" else read(word)

    read_optional.__name__ = read.__name__  # which argparse puts into its messages
    return read_optional


@functools.lru_cache
def _docstrings(cls: type) -> dict[str, str]:
    """The strings below the fields of a dataclass and of those that it inherits from."""
    found = {}
    for base in reversed(cls.__mro__[:-1]):
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for field, below in pairwise(getattr(definition, "body", [])):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
    return found


def _replaced(config: Any, given: Mapping[str, Any]) -> Any:
    changes: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        first, dot, rest = name.partition(".")
        if dot:
            nested.setdefault(first, {})[rest] = value
        else:
            changes[name] = value
    for name, inner in nested.items():
        try:
            changes[name] = _replaced(getattr(config, name), inner)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return dataclasses.replace(config, **_idle(config, changes), **changes)


def _idle(config: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of those fields that the changes leave without effect, and nobody asked for."""
    draft = object.__new__(type(config))
    vars(draft).update(vars(config) | changes)
    idle = _own_idle(draft) - _own_idle(config) - changes.keys()
    return {f.name: default_of(f) for f in dataclasses.fields(config) if f.name in idle}


def _own_idle(config: Any) -> set[str]:
    """Names of its own fields that have no effect."""
    return set(config.unused()) if hasattr(config, "unused") else set()


def _unknown(word: str, flags: Sequence[str]) -> str:
    """The sentence about a word that is neither an option nor the value of one."""
    if not word.startswith("-"):
        unquoted = f"; a pattern must be quoted: '*{Path(word).suffix}'" if word and Path(word).exists() else ""
        return f"unexpected word {word!r}; options begin with --{unquoted}"
    word = word.partition("=")[0]
    alike = [each for each in flags if each.rpartition(".")[2] == word.lstrip("-")]
    meant = alike[0] if alike else translated(word, flags)
    advice = f"did you mean {meant}?" if meant else nearest(word, flags, otherwise="--help lists them all")
    return f"unknown option {word}; {advice}".replace("'", "")
