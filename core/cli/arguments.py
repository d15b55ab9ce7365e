"""The command line: a preset, then any field of its configuration; every mistake in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gc
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from core.checks import unused_fields
from core.cli.errors import Interrupted, RunFailure
from core.cli.launch import program
from core.messages import nearest
from core.training.config import DEFAULT_OUT, RunConfig

C = TypeVar("C", bound=RunConfig)
T = TypeVar("T")

FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def parse(
    config_type: type[C],
    presets: Mapping[str, C],
    argv: Sequence[str] | None = None,
    *,
    description: str = "",
) -> C:
    """`PRESET [--any.config.field VALUE ...]` as a configuration; `--out DIR --resume` alone takes DIR's own.

    Raises ValueError of one sentence for anything wrong; exits with 0 after `--help`.
    """
    arguments = _with_compile_value(list(sys.argv[1:] if argv is None else argv))
    given = given_flags(arguments)
    named = bool(arguments) and not arguments[0].startswith("-")
    if named:
        base = _preset(presets, arguments.pop(0))
    elif "resume" in given and "out" in given:
        base = _saved(config_type, Path(given["out"]))
    elif "-h" in arguments or "--help" in arguments:
        base = next(iter(presets.values()))
    else:
        wanted = "name the run folder with --out, or a preset" if "resume" in given else "name a preset first"
        raise ValueError(f"{wanted}: {', '.join(presets)}")
    shown = "the preset given" if named else next(iter(presets))
    summary = f"{description} Presets: {', '.join(presets)}. The defaults below are those of {shown}.".strip()
    prog = " ".join(["python", *program(), "PRESET"])
    return parse_fields(config_type, _with_budget_given(base, given), arguments, prog=prog, description=summary)


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


def main(command: Callable[[], object]) -> None:
    """Runs a command; errors in one line; exits 0 done, 1 failed while running, 2 bad input, 130 interrupted.

    With TRIPTYCH_TRACEBACK set, errors are raised as they are.
    """
    if os.environ.get("TRIPTYCH_TRACEBACK"):
        command()
        return
    code, message = _outcome(command)
    gc.collect()  # gloo joins its threads when the last model it serves is gone; later they would crash the exit
    if message:
        print(" ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(code)


def _outcome(command: Callable[[], object]) -> tuple[int, str]:
    """The exit code and the message of a command; what is nobody's bad input or bad luck passes through."""
    try:
        command()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as interrupt:
        return 130, str(interrupt) if isinstance(interrupt, Interrupted) else "interrupted"
    except RunFailure as failure:
        return 1, f"error: {failure}"
    except OSError as error:
        cause = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return 1 if error.errno in FULL_DISK else 2, f"error: {cause}"
    except ValueError as error:
        return 2, f"error: {error}"
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        return 1, f"error: {str(error).split('. ')[0]}; a smaller batch or a larger --accumulate needs less memory"
    return 0, ""


def _preset(presets: Mapping[str, C], name: str) -> C:
    """The preset of that name, its run folder named after it unless it says otherwise."""
    if name not in presets:
        raise ValueError(f"unknown preset {name!r}; {nearest(name, presets)}")
    preset = presets[name]
    return dataclasses.replace(preset, out=DEFAULT_OUT / name) if preset.out == DEFAULT_OUT else preset


def _saved(config_type: type[C], out: Path) -> C:
    from core.training.checkpoints import read_config

    return dataclasses.replace(read_config(out, config_type), out=out)


def _with_budget_given(base: C, given: Mapping[str, str]) -> C:
    """A budget on the command line replaces the preset's, also one of the other kind."""
    if "minutes" in given and "steps" not in given:
        return dataclasses.replace(base, steps=None, minutes=base.minutes or 1.0)
    if "steps" in given and "minutes" not in given:
        return dataclasses.replace(base, minutes=None, steps=base.steps or 1)
    return base


def _with_compile_value(arguments: list[str]) -> list[str]:
    """`--compile` alone means `--compile default`."""
    return [
        "--compile=default" if word == "--compile" and (following or "--").startswith("--") else word
        for word, following in zip(arguments, [*arguments[1:], ""], strict=False)
    ]


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
