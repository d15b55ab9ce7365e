"""One architecture: one set of weights for text, images and control beside specialists of its shape.

Nothing is trained here: the figures are those that `python -m benchmarks.generalist` has left for each of its seeds.
"""

from __future__ import annotations

from typing import Any

from benchmarks.claims.common import Claim, Finding, Lab, percent
from benchmarks.claims.picture import Bars, Cells
from benchmarks.claims.verdict import Condition
from benchmarks.generalist.__main__ import COLUMNS, NAME, SHOWN
from benchmarks.measure.record import RESULTS
from core.files.json_files import read_json

FILE = RESULTS / f"{NAME}.json"
COMMAND = "python -m benchmarks.generalist --minutes 30 --clock cpu --seed N, for N = 0, 1 and 2"
OWN, RIVAL = "generalist", "samples"
NOISE = {"text": 0.003, "vision": 0.01, "decision": 0.02}
Runs = dict[str, dict[str, Any]]


def runs() -> Runs:
    """What the generalist has left of each seed that has specialists of as many samples beside it, in order."""
    kept = read_json(FILE) if FILE.exists() else {}
    return {seed: kept[seed] for seed in sorted(kept) if {OWN, RIVAL} <= kept[seed].keys()}


def worth(run: dict[str, Any], task: str, column: str) -> float:
    """The generalist's figure over that of a column, above 1 where the generalist is better."""
    own, other = run[OWN][task], max(1e-9, run[column][task])
    return float(other / own if task == "text" else own / other)


def row(found: Runs, column: str) -> list[str]:
    """Of the table: a column's figures, each the mean over the seeds that have it, which are named unless all do."""
    kept = {seed: run[column] for seed, run in found.items() if column in run}
    means = (f"{sum(one[task] for one in kept.values()) / len(kept):.4g}" if kept else "not run" for task in SHOWN)
    only = f" ({', '.join(kept)} alone)" if 0 < len(kept) < len(found) else ""
    return [COLUMNS[column] + only, *means]


def measure(lab: Lab) -> Finding:
    found, header = runs(), ["", *(f"{task}, {figure}" for task, figure in SHOWN.items())]
    if not found:
        nothing = [[name, *("not run" for _ in SHOWN)] for name in COLUMNS.values()]
        return Finding(header, nothing, [Bars("not run yet", "", {})], [], missing=COMMAND)
    ratios = {task: tuple(worth(run, task, RIVAL) for run in found.values()) for task in SHOWN}
    first = next(iter(found.values()))
    bars = {f"{task}, {COLUMNS[column]}": [worth(run, task, column) for run in found.values() if column in run]
            for task in SHOWN for column in COLUMNS if column != OWN}  # fmt: skip
    updates = ", ".join(f"{run['steps']:,} in {run['seconds']:,.0f} s" for run in found.values())
    commits = ", ".join(dict.fromkeys(run["provenance"]["commit"] for run in found.values()))
    return Finding(
        header,
        [row(found, column) for column in COLUMNS],
        [
            Bars("the generalist over", "ratio, above 1 where the generalist is better",
                 {name: values for name, values in bars.items() if values}),
            Cells("cosines of the gradients", "", "", first["cosines"], [*SHOWN],
                  [*SHOWN]),
        ],
        [Condition(f"{task}: worth of a specialist of as many samples", ratios[task], "at least", 0.95, NOISE[task])
         for task in SHOWN],
        [f"From benchmarks/results/{FILE.name}, made by {COMMAND.partition(',')[0]}: {', '.join(found)}; updates, of "
         f"one batch of each task: {updates}; commit {commits}. Kept of specialists of as many "
         + "samples: " + ", ".join(f"{task} {percent(values)}" for task, values in ratios.items()) + "."],
    )  # fmt: skip


CLAIM = Claim(
    sentence="One architecture does text, images and control: even one set of weights does about as well as three.",
    hypothesis="One trunk that learns tiny Shakespeare, CIFAR-10 and CartPole at once keeps at least 95 % of what "
    "three specialists of its shape reach from as many samples each: bits per character, accuracy and return.",
    equal="the trunk's shape, and the samples of every task",
    measure=measure,
    minutes=0.1,
    least=0.1,
)
