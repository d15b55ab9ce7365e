"""Benchmarks in parts: each is a series of comparisons, printed and saved as soon as they are measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.measure.harness import Comparison
from benchmarks.measure.options import add_results, names
from benchmarks.measure.record import update

Measured = Iterator[tuple[Comparison, Mapping[str, Any]]]
"""Comparisons, and what is to be printed and saved beside the figures of each."""


@dataclass(frozen=True)
class Part:
    """One of the things that a benchmark measures."""

    measure: Callable[[argparse.Namespace], Measured]
    rounds: int
    """Of each comparison, unless --rounds says otherwise."""
    shown: tuple[str, ...]
    """Metrics in the printed table."""


def add_parts(parser: argparse.ArgumentParser, parts: Mapping[str, Part]) -> None:
    """Options of every benchmark in parts: which ones, how often, with how many threads, and where figures go."""
    rounds = ", ".join(f"{name} {part.rounds}" for name, part in parts.items())
    parser.add_argument("--parts", type=names, default=list(parts), help=f"of {','.join(parts)}")
    parser.add_argument("--rounds", type=int, help=f"of each comparison; default: {rounds}")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    add_results(parser)


def pace(options: argparse.Namespace) -> dict[str, int]:
    """What `compare` is told by the options."""
    return {"rounds": options.rounds, "threads": options.threads}


def measured(parts: Mapping[str, Part], options: argparse.Namespace) -> Iterator[tuple[Part, Comparison, Any]]:
    """Every comparison of the parts asked for, with its part and what stands beside it."""
    for part in (parts[name] for name in options.parts):
        settings = argparse.Namespace(**vars(options) | {"rounds": options.rounds or part.rounds})
        for comparison, more in part.measure(settings):
            yield part, comparison, more


def run_parts(name: str, parts: Mapping[str, Part], options: argparse.Namespace) -> None:
    """Every part asked for, printed, and saved in the results folder as NAME.json."""
    for part, comparison, more in measured(parts, options):
        print(f"\n## {comparison.name}, {options.threads} thread(s)\n\n{comparison.table(*part.shown)}", flush=True)
        print(*(f"\n{key}: {value}" for key, value in more.items()), sep="")
        update(name, {comparison.name: {**comparison.as_dict(), **more}}, options.results)
    print(f"saved to {options.results / name}.json")
