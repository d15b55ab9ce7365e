"""The command line of training: a preset, then any field of its configuration."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from core.cli.arguments import given_flags, parse_fields, program
from core.messages import nearest
from core.training.config import DEFAULT_OUT, RunConfig

C = TypeVar("C", bound=RunConfig)


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
