"""Side by side, fairly: contestants in processes of their own, taking turns, within one run on one machine.

A contestant is a function named by its import path. Every round starts a fresh Python for each contestant in
order (A, B, A, B, ...), calls the function once and reads back one JSON object of numbers: neither side warms
the other's caches, and a machine that slows down slows both. Ratios are taken within a round; medians, never
bests, are what counts.

    result = compare("step_time", [Contestant("ours", "benchmarks.text:ours"), Contestant("theirs", ...)])
    print(result.table("step_seconds", "core_seconds"))
    result.save()
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure.record import RESULTS, ROOT, number, provenance, save, table
from benchmarks.measure.timing import time_steps
from core.memory import children_peak_memory, peak_memory

__all__ = [
    "Comparison",
    "Contestant",
    "Spread",
    "compare",
    "run_command",
    "run_once",
    "save",
    "table",
    "time_steps",
]


# ---------------------------------------------------------------------------------------------- contestants


@dataclass(frozen=True)
class Contestant:
    """One side of a comparison.

    function: "package.module:name", called as `name(seed=..., **arguments)` in a fresh process; returns a
        mapping from metric to a finite number (seconds, bytes, tokens/s, ...), possibly empty.
    arguments: what the function gets beside the seed; must survive JSON.
    environment: variables set for this contestant alone.
    """

    name: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.]+:\w+", self.function):
            raise ValueError(f"function must be 'package.module:name', got {self.function!r}")
        if "seed" in self.arguments:
            raise ValueError("arguments must not hold 'seed': the harness gives each round its own")


def run_once(contestant: Contestant, *, seed: int, threads: int = 1, timeout: float | None = None) -> dict[str, float]:
    """Call the contestant once in a fresh process.

    Returns its own metrics beside `wall_seconds` and `core_seconds` of the call (children included),
    `peak_bytes` of resident memory, and `process_seconds` from the start of the process to its end.
    Raises RuntimeError, with the end of its standard error, when it fails or overruns `timeout` seconds.
    """
    job = {"function": contestant.function, "arguments": {**contestant.arguments, "seed": seed}}
    command = [sys.executable, "-m", "benchmarks.measure.harness", json.dumps(job)]
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command, env=_environment(contestant, threads), capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{contestant.name} did not finish within {timeout:g} s") from None
    elapsed = time.perf_counter() - start
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-12:])
        raise RuntimeError(f"{contestant.name} failed with exit code {done.returncode}:\n{tail}")
    return {**last_json(done.stdout), "process_seconds": elapsed}


def run_command(command: Sequence[str], *, seed: int, cwd: str | None = None) -> dict[str, float]:
    """A contestant function for whole programs: runs `command`, `{seed}` replaced, as a child of the worker.

    Time and cores are measured by the worker, `peak_bytes` is the child's; numbers that the program prints as
    a JSON object in its last line of standard output are added.
    """
    words = [word.replace("{seed}", str(seed)) for word in command]
    done = subprocess.run(words, cwd=cwd, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = {}
    with contextlib.suppress(RuntimeError):
        found = last_json(done.stdout)
    numbers = {metric: value for metric, value in found.items() if isinstance(value, (int, float))}
    return {"peak_bytes": children_peak_memory(), **numbers}


def last_json(text: str) -> dict[str, Any]:
    """The JSON object in the last line of `text`; RuntimeError where that is something else."""
    line = text.strip().rpartition("\n")[2]
    with contextlib.suppress(json.JSONDecodeError):
        if isinstance(found := json.loads(line), dict):
            return found
    raise RuntimeError(f"expected one JSON object in the last line of output, got {line[:120]!r}")


def _environment(contestant: Contestant, threads: int) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    fixed = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "PYTHONPATH": path}
    return {**os.environ, **fixed, **contestant.environment}


# ---------------------------------------------------------------------------------------------- comparison


@dataclass(frozen=True)
class Spread:
    """A median between the smallest and the largest value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        if self.low == self.high:
            return number(self.median)
        return f"{number(self.median)} ({number(self.low)}..{number(self.high)})"


@dataclass(frozen=True)
class Comparison:
    """Every round of every contestant. rounds[name][i] holds the metrics of round i."""

    name: str
    contestants: tuple[Contestant, ...]
    rounds: Mapping[str, Sequence[Mapping[str, float]]]
    seeds: tuple[int, ...]
    threads: int
    provenance: Mapping[str, Any]

    def spread(self, contestant: str, metric: str) -> Spread:
        return Spread.of([measured[metric] for measured in self.rounds[contestant]])

    def ratio(self, contestant: str, versus: str, metric: str) -> Spread | None:
        """contestant / versus, round by round: each ratio is of two runs that were neighbours in time.

        None where `versus` measured a zero.
        """
        if not all(measured[metric] for measured in self.rounds[versus]):
            return None
        pairs = zip(self.rounds[contestant], self.rounds[versus], strict=True)
        return Spread.of([ours[metric] / theirs[metric] for ours, theirs in pairs])

    def metrics(self) -> list[str]:
        """The metrics that every round of every contestant has, in the first one's order."""
        every = [measured for rounds in self.rounds.values() for measured in rounds]
        return [metric for metric in every[0] if all(metric in measured for measured in every)]

    def table(self, *metrics: str) -> str:
        """One row a contestant: the spread of each metric and its ratio to the last contestant's."""
        metrics = metrics or tuple(self.metrics())
        versus = self.contestants[-1].name
        header = ["", *(column for metric in metrics for column in (metric, f"/ {versus}"))]
        rows = [[c.name, *self._cells(c.name, versus, metrics)] for c in self.contestants]
        return table(header, rows)

    def _cells(self, name: str, versus: str, metrics: Sequence[str]) -> Iterator[str]:
        for metric in metrics:
            yield str(self.spread(name, metric))
            yield "1" if name == versus else str(self.ratio(name, versus, metric) or "-")

    def as_dict(self) -> dict[str, Any]:
        """Medians, extremes and ratios with all that a reader needs to repeat them, JSON-ready; not every round."""
        names, metrics, last = [c.name for c in self.contestants], self.metrics(), self.contestants[-1].name
        return {
            "name": self.name,
            "provenance": dict(self.provenance),
            "rounds": len(self.seeds),
            "seeds": list(self.seeds),
            "threads": self.threads,
            "contestants": [asdict(c) for c in self.contestants],
            "measured": {name: {m: asdict(self.spread(name, m)) for m in metrics} for name in names},
            f"ratio to {last}": {name: self._ratios(name, last, metrics) for name in names if name != last},
        }

    def _ratios(self, name: str, versus: str, metrics: Sequence[str]) -> dict[str, Any]:
        ratios = {metric: self.ratio(name, versus, metric) for metric in metrics}
        return {metric: asdict(ratio) for metric, ratio in ratios.items() if ratio}

    def save(self, folder: Path = RESULTS) -> Path:
        return save(self.name, self.as_dict(), folder)


def compare(
    name: str,
    contestants: Sequence[Contestant],
    *,
    rounds: int = 5,
    seed: int = 0,
    threads: int = 1,
    timeout: float | None = None,
) -> Comparison:
    """Run every contestant `rounds` times, in turn; round i gives every side the seed `seed + i`.

    threads: OMP_NUM_THREADS of each process. timeout: seconds that one call may take.
    Raises ValueError for less than one round or two contestants of one name, RuntimeError where a run fails.
    """
    names = [contestant.name for contestant in contestants]
    if rounds < 1 or not names or len(set(names)) < len(names):
        raise ValueError(f"needs at least one round and distinct contestants, got {rounds} rounds of {names}")
    results: dict[str, list[Mapping[str, float]]] = {each: [] for each in names}
    for index in range(rounds):
        for contestant in contestants:
            measured = run_once(contestant, seed=seed + index, threads=threads, timeout=timeout)
            results[contestant.name].append(measured)
            used = f"{measured['wall_seconds']:.2f} s, {measured['core_seconds']:.2f} core-s"
            print(f"{name}: round {index + 1}/{rounds} {contestant.name}: {used}", file=sys.stderr)
    seeds = tuple(seed + index for index in range(rounds))
    return Comparison(name, tuple(contestants), results, seeds, threads, provenance())


# ---------------------------------------------------------------------------------------------- the worker


def _core_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def work(function: str, arguments: Mapping[str, Any]) -> dict[str, float]:
    """Import, then measure the call alone: what the module imports at its top is not counted."""
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)
    wall, core = time.perf_counter(), _core_seconds()
    with contextlib.redirect_stdout(sys.stderr):
        measured = dict(call(**arguments) or {})
    spent = {"wall_seconds": time.perf_counter() - wall, "core_seconds": _core_seconds() - core}
    for metric, value in measured.items():
        if not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise ValueError(f"{function} measured {metric} = {value!r}; a finite number is needed")
    return {**spent, "peak_bytes": peak_memory(), **measured}


if __name__ == "__main__":
    print(json.dumps(work(**json.loads(sys.argv[1]))))
