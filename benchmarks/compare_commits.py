"""Two commits side by side: do they train the same models, bit for bit?

    python -m benchmarks.compare_commits A B [--assert-equal] [--presets text/char-cpu ...] [--steps N]

For a refactoring, which moves and renames but must not change a number. Every preset of every panel, and the variants
below, are trained for a few steps in both commits, each checked out in a git worktree of its own (`.` is the working
tree as it is) and run by its own commands. Compared are the losses and the norms of the gradients, the evaluations
and samples, and the tensors of the last checkpoint (weights, their average, the optimiser); of data for decision, the
arrays recorded. The table has the largest absolute difference of each, and "yes" only where all bits are equal.

What cannot be had on either side, as an environment whose simulator is not installed, is left out with the reason; on
one side only it is a difference. Tensors that were renamed on purpose: --renamed OLD=NEW. It takes the CPU, one
thread, no network, and about five minutes for everything.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from math import isfinite
from pathlib import Path
from typing import Any

from benchmarks.measure.cases import DATA, FLAGS, LARGE, NAMED_DATA, VARIANTS, Case, environment_of, make_data, settings
from benchmarks.measure.checkouts import PANELS, REFUSED, Checkout, opened
from benchmarks.measure.differences import Difference, arrays, compare, evaluations, losses, weights
from benchmarks.measure.options import parser_of
from benchmarks.measure.record import number, provenance, table
from core.cli.exits import RunFailure, main
from core.files.json_files import write_json

STEPS = 4
RECORD = ("--steps 400", "--episodes 8")
"""Spellings of how much decision.collect records."""


@dataclass(frozen=True)
class Row:
    """The outcome of a case. reason: why there is nothing to compare, on one side or on both."""

    name: str
    steps: int
    found: Mapping[str, Difference]
    reason: str = ""

    @property
    def verdict(self) -> str:
        """yes, no, or skipped: what neither side can do."""
        if self.found:
            return "yes" if all(difference.equal for difference in self.found.values()) else "no"
        return "skipped" if self.reason.startswith("skipped") else "no"

    def cells(self) -> list[str]:
        gaps = [number(self.found[kind].largest) if kind in self.found else "-" for kind in KINDS]
        return [self.name, str(self.steps), *gaps, self.verdict]

    def record(self) -> dict[str, Any]:
        """Everything as JSON has it: an infinite difference is null."""
        finite = {
            kind: asdict(gap) | ({} if isfinite(gap.largest) else {"largest": None}) for kind, gap in self.found.items()
        }
        return {"name": self.name, "steps": self.steps, "equal": self.verdict, "reason": self.reason, **finite}

    def notes(self) -> Iterator[str]:
        """What the numbers do not say."""
        if self.reason:
            yield f"{self.name}: {self.reason}"
        for kind, difference in self.found.items():
            if not difference.equal:
                yield f"{self.name}: {difference.count} {kind} differ, first {difference.first}"


KINDS = ("losses", "evaluations", "tensors")
RECORDED = "tensors"


# ---------------------------------------------------------------------------------------------- both sides


@dataclass(frozen=True)
class Pair:
    """Commits A and B, with the data of `shared`."""

    sides: tuple[Checkout, Checkout]
    shared: Path
    steps: int
    renamed: Sequence[tuple[str, str]]

    def row(self, case: Case) -> Row:
        """One case, trained by A, then by B, and compared; nothing of it stays on the disk."""
        steps = min(self.steps, 2) if case.preset in LARGE else self.steps
        reasons = [self._train(side, case, steps) for side in self.sides]
        runs = [side.work / "run" for side in self.sides]
        found = {} if any(reasons) else self._compared(*runs)
        for run in runs:
            shutil.rmtree(run, ignore_errors=True)
        return Row(case.name, steps, found, why(*reasons))

    def recorded(self, environment: str) -> Row:
        """What a random policy does in an environment, recorded by both sides."""
        reasons = [record(side, environment) for side in self.sides]
        files = [arrays(recording(side, environment)) for side in self.sides if not any(reasons)]
        return Row(f"decision.collect {environment}", 0, {RECORDED: compare(*files)} if files else {}, why(*reasons))

    def _compared(self, a: Path, b: Path) -> dict[str, Difference]:
        measured = {"losses": losses, "evaluations": evaluations}
        found = {kind: compare(read(a), read(b)) for kind, read in measured.items()}
        return found | {"tensors": compare(weights(a, self.renamed), weights(b))}

    def _train(self, side: Checkout, case: Case, steps: int) -> str:
        """Why a side cannot train a case; "" where it has."""
        data = case.data or NAMED_DATA.get(case.name) or DATA.get(case.panel, "")
        data = str(self.shared / data) if data in DATA.values() else data
        if case.panel == "decision":
            file = recording(side, environment_of(case))
            if not file.exists():
                return f"there is no data of {environment_of(case)}"
            data = str(file)
        words = [*settings(case, steps), "--data", data, "--out", str(side.work / "run")]
        reason = first_taken(side, f"{case.panel}.train", [case.preset, *words], case.flags)
        if reason or not case.then:
            return reason
        return first_taken(side, f"{case.panel}.train", [], (f"--out {side.work / 'run'} {case.then}",))


def first_taken(side: Checkout, module: str, words: Sequence[str], spellings: Sequence[str]) -> str:
    """Runs a command with the first spelling of its flags that is not refused; why it failed, "" where it did not.

    Where all are refused, the reason is the first that is not about the spelling.
    """
    refusals = []
    for spelling in spellings:
        outcome = side.run(module, *words, *shlex.split(spelling))
        if outcome.code != REFUSED:
            return outcome.message and f"failed: {outcome.message}"
        refusals.append(outcome.message)
    return f"refused: {next((why for why in refusals if 'unknown option' not in why), refusals[0])}"


def why(a: str, b: str) -> str:
    """Why there is nothing to compare: a side that can do it makes the other's failure a difference."""
    if a and b:
        return f"skipped, {a}" if a == b else f"skipped, A {a}; B {b}"
    return "; ".join(f"{side} {reason}" for side, reason in (("A", a), ("B", b)) if reason)


def recording(side: Checkout, environment: str) -> Path:
    """Where a side has its data of an environment."""
    return side.work / f"{environment}.npz"


def record(side: Checkout, environment: str) -> str:
    """Lets a side record its data; why it cannot, "" where it has."""
    words = ["--env", environment, "--policy", "random", "--seed", "0", "--out", str(recording(side, environment))]
    return first_taken(side, "decision.collect", words, RECORD)


# ---------------------------------------------------------------------------------------------- the command


def cases(a: Mapping[str, Sequence[str]], b: Mapping[str, Sequence[str]]) -> dict[str, Case | Row]:
    """By their names: presets of both sides, rows that say so for those of one, and the variants."""
    found: dict[str, Case | Row] = {}
    for panel in PANELS:
        for preset in dict.fromkeys([*a[panel], *b[panel]]):
            name, both = f"{panel}/{preset}", preset in a[panel] and preset in b[panel]
            only = f"only {'A' if preset in a[panel] else 'B'} has this preset"
            found[name] = Case(name, preset, FLAGS.get(name, ("",))) if both else Row(name, 0, {}, only)
        found |= {variant.name: variant for variant in VARIANTS if variant.panel == panel}
    return found


def chosen(found: Mapping[str, Case | Row], patterns: Sequence[str]) -> list[Case | Row]:
    """Those whose name fits one of the patterns, all without any. Raises ValueError for one that fits none."""
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in found):
            raise ValueError(f"presets = {pattern!r} fits none of: {', '.join(found)}")
    return [case for name, case in found.items() if not patterns or any(fnmatch(name, each) for each in patterns)]


def rows(pair: Pair, wanted: Sequence[Case | Row]) -> Iterator[Row]:
    """A row for each case, and before the first that needs it one for the data of an environment."""
    environments: set[str] = set()
    for case in wanted:
        if isinstance(case, Row):
            yield case
            continue
        if case.panel == "decision" and (environment := environment_of(case)) not in environments:
            environments.add(environment)
            yield pair.recorded(environment)
        yield pair.row(case)


def measure(options: argparse.Namespace) -> list[Row]:
    """All rows, announced one after another on standard error."""
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        folder = Path(name)
        make_data(folder)
        with opened(options.a, folder / "a") as a, opened(options.b, folder / "b") as b:
            wanted = chosen(cases(a.presets(), b.presets()), options.presets)
            found, start = [], time.perf_counter()
            for row in rows(Pair((a, b), folder, options.steps, options.renamed), wanted):
                found.append(row)
                print(f"{time.perf_counter() - start:4.0f} s  {row.name}: {row.verdict}", file=sys.stderr, flush=True)
            return found


def run(options: argparse.Namespace) -> None:
    """The table, what it does not say, and the verdict. Raises RunFailure where equality is asserted and fails."""
    found = measure(options)
    print(table(["preset", "steps", *KINDS, "equal"], [row.cells() for row in found]))
    print("".join(f"\n{note}" for row in found for note in row.notes()))
    if options.json:
        record = {"a": options.a, "b": options.b, "provenance": provenance()}
        write_json(options.json, record | {"rows": [row.record() for row in found]})
    different, equal = ([row for row in found if row.verdict == verdict] for verdict in ("no", "yes"))
    if options.assert_equal and (different or not equal):
        raise RunFailure(f"{len(different)} of {len(found)} rows differ, {len(equal)} are equal")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. Raises ValueError for what is wrong in it."""
    parser = parser_of("compare_commits", __doc__)
    parser.add_argument("a", metavar="A", help="a commit, or . for the working tree")
    parser.add_argument("b", metavar="B", help="another")
    parser.add_argument("--assert-equal", action="store_true", help="exit with 1 where anything differs")
    parser.add_argument("--presets", nargs="+", default=[], help="rows by name or pattern, as text/char-cpu vision/*")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training; of the largest models 2 at most")
    parser.add_argument(
        "--renamed", action="append", default=[], help="OLD=NEW, an expression, in A's names of tensors"
    )
    parser.add_argument("--json", type=Path, help="a file to write as well")
    options = parser.parse_args(argv)
    if options.steps < 1:
        raise ValueError(f"steps = {options.steps} must be at least 1")
    options.renamed = [renaming(word) for word in options.renamed]
    return options


def renaming(word: str) -> tuple[str, str]:
    """A regular expression and what takes its place. Raises ValueError for what is none."""
    old, equals, new = word.rpartition("=")
    try:
        re.sub(old, new, "")
    except (re.error, IndexError) as error:
        raise ValueError(f"renamed = {word!r} is no regular expression and its replacement: {error}") from None
    if not (old and equals):
        raise ValueError(f"renamed = {word!r} must be OLD=NEW")
    return old, new


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the worktrees are removed then, too
    main(lambda: run(parse()))
