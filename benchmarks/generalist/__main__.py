"""One trunk for text, images and control, beside specialists of the same shape.

python -m benchmarks.generalist [--minutes 30 | --steps N] [--out runs/one] [--columns generalist,samples,time,tuned]

A core of 2 to 4 million parameters is trained at once on characters of tiny Shakespeare, patches of CIFAR-10 and
trajectories of CartPole: every update adds the mean losses of one batch of each. What it leaves are three ordinary run
folders over the same weights, OUT/generalist/text, vision and decision, which text.sample, vision.predict and
decision.rollout take. Beside it, by --columns:

- samples: a specialist for each task, of the same shape, with as many updates, so the same samples
- time: the same for a third of the generalist's time each
- tuned: each task goes on alone from the generalist for a tenth of the generalist's time

The table and the cosines between the tasks' gradients are saved in benchmarks/results/generalist.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.generalist.doors import PANELS, Settings
from benchmarks.generalist.training import train
from benchmarks.measure.options import add_results, check_known, names, parser_of
from benchmarks.measure.record import ROOT, provenance, table, update
from core.cli.exits import main
from core.files.downloads import data_root

NAME = "generalist"
COLUMNS = {
    "generalist": "one set of weights",
    "samples": "specialists, same samples",
    "time": "specialists, a third of its time each",
    "tuned": "tuned from it for a tenth of its time",
}
SHOWN = {"text": "bits per character", "vision": "accuracy", "decision": "return"}
TEACH = ("--env", "CartPole-v1", "--policy", "ppo", "--record", "replay")


def specialists(out: Path, settings: Settings, start: Path | None = None) -> dict[str, float]:
    """Every task alone, by its panel's own training, from nothing or from the runs in a folder: the figure of each."""
    found = {}
    for name, panel in PANELS.items():
        config = replace(panel.configure(out / name, settings), init_from=str(start / name) if start else "")
        found[name] = panel.train(config)[panel.figure]
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The columns asked for, saved as soon as each is finished; the generalist comes first."""
    settings = Settings(
        steps=options.steps,
        minutes=None if options.steps else options.minutes,
        clock=options.clock,
        seed=options.seed,
        weighing=options.weighing,
        dim=options.dim,
        depth=options.depth,
        decision=cartpole(options),
        episodes=options.episodes,
    )
    every, angles, steps, seconds = train(options.out / "generalist", settings)
    figures = {name: every[name][panel.figure] for name, panel in PANELS.items()}
    record: dict[str, Any] = {"steps": steps, "seconds": seconds, "cosines": angles.tolist(), "generalist": figures}
    record |= {"weighing": options.weighing, "clock": options.clock, "provenance": provenance()}
    for column in options.columns:
        if column != "generalist":
            record[column] = OTHERS[column](options.out, settings, steps, seconds)
        update(NAME, {f"seed {options.seed}": record}, options.results)
    return record


def same_samples(out: Path, settings: Settings, steps: int, seconds: float) -> dict[str, float]:
    return specialists(out / "samples", replace(settings, steps=steps, minutes=None))


def same_time(out: Path, settings: Settings, steps: int, seconds: float) -> dict[str, float]:
    minutes = seconds / 60 / len(PANELS)
    return specialists(out / "time", replace(settings, steps=None, minutes=minutes))


def tuned(out: Path, settings: Settings, steps: int, seconds: float) -> dict[str, float]:
    return specialists(out / "tuned", replace(settings, steps=None, minutes=seconds / 600), out / "generalist")


OTHERS: Mapping[str, Callable[[Path, Settings, int, float], dict[str, float]]] = {
    "samples": same_samples,
    "time": same_time,
    "tuned": tuned,
}


def cartpole(options: argparse.Namespace) -> str:
    """The trajectories to learn from; made, by the teacher of the decision panel, where there are none."""
    if options.decision or (data_root() / "cartpole.npz").exists():
        return options.decision or "cartpole.npz"
    file = options.out / "cartpole.npz"
    if not file.exists():
        subprocess.run([sys.executable, "-m", "decision.collect", *TEACH, "--out", str(file)], cwd=ROOT, check=True)
    return str(file)


def shown(record: Mapping[str, Any]) -> str:
    """The table, and how the tasks pull."""
    present = [column for column in COLUMNS if column in record]
    rows = [[f"{name}, {SHOWN[name]}", *(f"{record[column][name]:.4g}" for column in present)] for name in PANELS]
    angles = [[a, *(f"{cosine:.3f}" for cosine in row)] for a, row in zip(PANELS, record["cosines"], strict=True)]
    heads = table(["", *(COLUMNS[column] for column in present)], rows), table(["gradient cosines", *PANELS], angles)
    return "\n\n".join((f"{record['steps']:,} updates in {record['seconds']:,.0f} s", *heads))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a column that is none."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="of the generalist")
    parser.add_argument("--steps", type=int, help="updates of the generalist, in place of minutes")
    parser.add_argument("--clock", default="wall", help="what minutes count: wall, cpu")
    parser.add_argument("--out", type=Path, default=Path("runs") / "one", help="folder of the run folders")
    parser.add_argument("--columns", type=names, default=list(COLUMNS), help=f"of {','.join(COLUMNS)}")
    parser.add_argument("--weighing", default="equal", help="of the losses: equal, relative")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dim", type=int, default=256, help="channels")
    parser.add_argument("--depth", type=int, default=4, help="blocks")
    parser.add_argument("--episodes", type=int, default=20, help="by which an agent is judged, for each target")
    parser.add_argument("--decision", default="", help="trajectories of CartPole; default: made if need be")
    add_results(parser)
    options = parser.parse_args(argv)
    check_known(options, columns=COLUMNS, clock=("wall", "cpu"), weighing=("equal", "relative"))
    options.out = options.out.absolute()
    return options


def run(options: argparse.Namespace) -> None:
    """Trains, prints and saves."""
    print(shown(measure(options)))
    print(f"saved to {options.results / NAME}.json")


if __name__ == "__main__":
    main(lambda: run(parse()))
