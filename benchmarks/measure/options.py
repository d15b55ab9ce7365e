"""What the command lines of the benchmarks share."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from benchmarks.measure.record import RESULTS


def parser_of(command: str, doc: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m benchmarks.COMMAND`, described by the first line of its docstring."""
    return argparse.ArgumentParser(prog=f"python -m benchmarks.{command}", description=(doc or "").partition("\n")[0])


def add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")


def check_known(options: argparse.Namespace, **known: Collection[str]) -> None:
    """Raises ValueError where an option, or an element of a list of them, is not among its choices."""
    for name, choices in known.items():
        value = getattr(options, name)
        for word in value if isinstance(value, list) else [value]:
            if word not in choices:
                raise ValueError(f"{name} = {word!r} is not one of: {', '.join(choices)}")


def names(words: str) -> list[str]:
    return words.split(",")


def integers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


def numbers(words: str) -> list[float]:
    return [float(word) for word in words.split(",")]
