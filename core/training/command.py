"""The command line of training: a preset, then any field of its configuration; or the folder of a run to resume."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from core.cli.arguments import Parser, given_fields, named_path, program, with_fields
from core.messages import nearest
from core.training.checkpoints import Kinds, read_config
from core.training.config import BUDGETS, DEFAULT_OUT, RunConfig
from core.training.folder import as_restarted

C = TypeVar("C", bound=RunConfig)


def parse(kinds: Kinds[C], presets: Mapping[str, C], argv: Sequence[str] | None = None, *, description: str = "") -> C:
    """`PRESET [--any.config.field VALUE ...]` as a configuration; `--out DIR --resume` alone takes DIR's own.

    Raises ValueError of one sentence for anything wrong; exits with 0 after `--help`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    named = bool(arguments) and not arguments[0].startswith("-")
    if named:
        name = arguments.pop(0)
        if name not in presets:
            raise ValueError(f"unknown preset {name!r}; {nearest(name, presets)}")
        base = presets[name]
        if base.out == DEFAULT_OUT:
            base = dataclasses.replace(base, out=DEFAULT_OUT / name)
    elif folder := resumed_folder(arguments):
        base = dataclasses.replace(read_config(folder, kinds), out=folder)
    elif {"-h", "--help"} & {*arguments}:
        base = next(iter(presets.values()))
    else:
        wanted = "name the run folder with --out, or a preset" if "--resume" in arguments else "name a preset first"
        raise ValueError(f"{wanted}: {', '.join(presets)}")
    shown = "the preset given" if named else next(iter(presets))
    summary = f"{description} Presets: {', '.join(presets)}. The defaults below are those of {shown}.".strip()
    given = given_fields(base, arguments, prog=" ".join(["python", *program(), "PRESET"]), description=summary)
    if {*BUDGETS} & given.keys():  # a budget of one kind replaces the preset's of another
        given = dict.fromkeys(BUDGETS) | given
    return as_restarted(with_fields(base, given)).adapted(given)


def resumed_folder(argv: Sequence[str]) -> Path | None:
    """The run folder of a command line with `--out DIR --resume`; None for any other."""
    parser = Parser(add_help=False)
    parser.add_argument("--out")
    parser.add_argument("--resume", action="store_true")
    given, _ = parser.parse_known_args(argv)
    return named_path(given.out, "--out") if "resume" in given and "out" in given else None
