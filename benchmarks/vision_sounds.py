"""Spoken digits: how well a voice is understood that was never heard, and the official split.

python -m benchmarks.vision_sounds [--parts speakers official] [--seeds 3] [--threads 1] [--steps N]

speakers: the preset fsdd-speakers learns from five of the six speakers of fsdd and is judged by all 500 recordings of
the sixth, each in turn: six runs, one seed; the mean over the speakers is what counts. official: the preset fsdd learns
from takes 5 to 49 and is judged by takes 0 to 4, of the same speakers, over several seeds. Nothing is held out for
validation, and the last step is judged.

Writes each part into benchmarks/results/vision_sounds.json, beside one that is there. To try it in small: --steps 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure.harness import Comparison, Contestant, compare, last_json
from benchmarks.measure.options import add_results, parser_of
from benchmarks.measure.record import ROOT, table, update
from benchmarks.peers.nanogpt import run_timed
from core.cli.exits import main

NAME = "vision_sounds"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


def learn(seed: int, preset: str, data: str, steps: int = 0) -> dict[str, float]:
    """Accuracy on the test recordings of `data` after the last step, and the seconds of `vision.train`."""
    budget = ["--steps", str(steps)] if steps else []
    with TemporaryDirectory() as parent:
        out = str(Path(parent) / "run")
        words = [preset, "--data", data, "--validation", "0", "--seed", str(seed), "--device", "cpu", *budget]
        spent, _ = run_timed([sys.executable, "-m", "vision.train", *words, "--out", out], ROOT)
        judge = [out, "--checkpoint", "last", "--split", "test", "--device", "cpu", "--json"]
        _, printed = run_timed([sys.executable, "-m", "vision.evaluate", *judge], ROOT)
    return {"accuracy": last_json(printed)["test/accuracy"], **spent}


def sides(part: str, steps: int) -> list[Contestant]:
    """The runs of a part, by name."""
    runs = {name: ("fsdd-speakers", f"fsdd:{name}") for name in SPEAKERS} if part == "speakers" else {}
    runs = runs or {"official split": ("fsdd", "fsdd")}
    return [
        Contestant(name, f"benchmarks.{NAME}:learn", {"preset": preset, "data": data, "steps": steps})
        for name, (preset, data) in runs.items()
    ]


def figures(found: Comparison) -> dict[str, Any]:
    """The accuracy of every run and seed, their mean and standard deviation, and the core-seconds of a training."""
    each = {name: [measured["accuracy"] for measured in rounds] for name, rounds in found.rounds.items()}
    every = [value for values in each.values() for value in values]
    spent = [measured["train_core_seconds"] for rounds in found.rounds.values() for measured in rounds]
    deviation = stdev(every) if len(every) > 1 else 0.0
    return {"mean": mean(every), "std": deviation, "each": each, "train_core_seconds": mean(spent)}


def shown(measured: dict[str, Any]) -> str:
    """A row for each run, and one for all."""
    rows = [[name, ", ".join(f"{100 * value:.2f} %" for value in values)] for name, values in measured["each"].items()]
    total = f"{100 * measured['mean']:.2f} ± {100 * measured['std']:.2f} %"
    return table(["", "test accuracy"], [*rows, ["mean ± std", total]])


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = parser_of(NAME, __doc__)
    parts = ("speakers", "official")
    parser.add_argument("--parts", nargs="+", choices=parts, default=[*parts], help="default: both")
    parser.add_argument("--seeds", type=int, default=3, help="of the official split, from 0")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--steps", type=int, default=0, help="of each training, instead of the preset's own")
    add_results(parser)
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    """Each part, printed and saved as soon as it is measured."""
    for part in options.parts:
        rounds = options.seeds if part == "official" else 1
        found = compare(part, sides(part, options.steps), rounds=rounds, threads=options.threads)
        measured = figures(found)
        print(f"\n## {part}\n\n{shown(measured)}\n", flush=True)
        about = {"provenance": dict(found.provenance), "threads": options.threads, "steps": options.steps}
        update(NAME, {part: {**about, "seeds": rounds, "figures": measured}}, options.results)
    print(f"saved to {options.results / NAME}.json")


if __name__ == "__main__":
    main(lambda: run(parse()))
