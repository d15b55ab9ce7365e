"""The command line: a preset, then any field of its configuration; every mistake in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from core.checks import unused_fields
from core.messages import nearest
from core.training.config import RunConfig

C = TypeVar("C", bound=RunConfig)
T = TypeVar("T")


def parse_fields(
    config_type: type[T], default: T, arguments: Sequence[str], *, prog: str = "", description: str = ""
) -> T:
    """`--field VALUE ...` over the dataclass `default`; underscores and hyphens are the same.

    Raises ValueError of one sentence; exits with 0 after `--help`.
    """
    import tyro

    given = given_flags(arguments)
    known = _fields(default)
    for name in given:
        if name not in known and name.split("_", 1)[0] != "tyro":
            raise ValueError(f"unknown option {_flag(name)}; {_suggestion(name, known)}")
    complaint = io.StringIO()
    help_asked = not {"-h", "--help"}.isdisjoint(arguments)
    drawn_for = sys.stdout if help_asked else io.StringIO()  # colours and frames are made for what stdout is
    try:
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(drawn_for):
            config = tyro.cli(
                config_type,
                prog=prog or None,
                default=default,
                args=list(arguments),
                description=description,
                config=(tyro.conf.AvoidSubcommands,),  # an optional dataclass is what its default is
            )
    except SystemExit as end:
        if not end.code:
            raise
        message = _one_line(complaint.getvalue()).removeprefix("Error parsing ")
        raise ValueError(_with_the_word(message.removeprefix(f"{config_type.__name__}: "))) from None
    for name, reason in unused_fields(config).items():
        for flag in given:
            if flag == name or flag.startswith(f"{name}."):
                raise ValueError(f"{_flag(flag)} has no effect: {reason}")
    return config


def run_folder(argv: list[str], command: str) -> tuple[Path, list[str]]:
    """The run folder that begins a command line, and the rest of it. Raises ValueError when there is none."""
    if argv and argv[0] in ("-h", "--help"):
        return Path(), argv
    if not argv or argv[0].startswith("-"):
        raise ValueError(f"name the run folder first: python -m {command} DIR [options]")
    return Path(argv[0]), argv[1:]


def given_flags(arguments: Sequence[str]) -> dict[str, str]:
    """The dotted field names on a command line, each with the word after it (or after its `=`)."""
    found = {}
    for i, word in enumerate(arguments):
        if word.startswith("--") and word != "--help":
            name, _, value = word[2:].partition("=")
            following = arguments[i + 1] if i + 1 < len(arguments) else ""
            found[name.replace("-", "_")] = value or following
    return found


def program() -> list[str]:
    """What follows `python` in the command that started this process, without its arguments: -m text.train, say."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return ["-m", spec.name.removesuffix(".__main__")] if spec else [sys.argv[0]]


def _fields(config: Any, at: str = "") -> list[str]:
    """All flags of a dataclass instance, as dotted names."""
    names = []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            names += _fields(value, f"{at}{f.name}.")
        else:
            names += [at + f.name] + ([f"{at}no_{f.name}"] if isinstance(value, bool) else [])
    return names


def _suggestion(name: str, known: Sequence[str]) -> str:
    ends_alike = [full for full in known if full.rpartition(".")[2] == name]
    meant = ends_alike[0] if ends_alike else nearest(name, known).partition("'")[2].partition("'")[0]
    return f"did you mean {_flag(meant)}?" if meant else "--help lists them all"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _with_the_word(message: str) -> str:
    """A message of tyro's about several words with the one that is wrong, if it should be a number and is none."""
    flag, told, words = message.partition(": Could not find valid parse for arguments: ")
    wrong = [word for word in re.findall(r"'([^']*)'", words) if not re.match(r"[-+]?\.?(\d|inf|nan)", word)]
    return f"{flag}: {wrong[0]!r} is not a number" if told and wrong else message


def _one_line(message: str) -> str:
    """The first paragraph of a message of tyro's: what is between its title, ruled off, and a rule or an empty line."""
    body = re.split(r"^ *-{3,} *$", message, maxsplit=2, flags=re.MULTILINE)[1:2]
    paragraph = re.split(r"\n *\n", "".join(body).strip())[0]
    return " ".join(paragraph.split()) or "the command line was not understood"
