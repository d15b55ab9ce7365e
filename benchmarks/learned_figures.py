"""What the quick recipes learn, over several seeds: where the figures of README and of the presets come from.

python -m benchmarks.learned_figures [--seeds 5] [--recipes vit-digits cartpole char-cpu] [--threads 1]

Each recipe is trained by its own command, once for each seed, and its last step evaluated by the panel's command:
the share of 359 handwritten digits classified correctly, having learned from all others; what CartPole-v1 returns when
asked for 50 to 500, from data that depends on the seed as well; the loss on tiny Shakespeare's held-out tenth. A test
must not ask for these figures, only for what lies several of their standard deviations below.

Writes each recipe into benchmarks/results/learned_figures.json, beside those that are there. To try it in small:
--seeds 1 --steps 2.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure.harness import Comparison, Contestant, compare, last_json
from benchmarks.measure.options import add_results, parser_of
from benchmarks.measure.record import ROOT, number, table, update
from benchmarks.peers.nanogpt import run_timed
from core.cli.exits import main
from decision.presets import RECIPES as COLLECTED

NAME = "learned_figures"
RECIPES = {"vit-digits": "digits", "cartpole": "cartpole", "char-cpu": "characters"}
"""The function that trains and judges each."""
SPENT = ("wall_seconds", "core_seconds", "peak_bytes", "train_seconds", "process_seconds")
"""What the harness measures beside what was learned."""


# ---------------------------------------------------------------------------------------------- the recipes


def command(module: str, *words: object) -> tuple[dict[str, float], str]:
    """Runs `python -m module`: the seconds that it took, and what it printed."""
    return run_timed([sys.executable, "-m", module, *map(str, words)], ROOT)


def learn(panel: str, train: Sequence[object], judge: Sequence[object]) -> tuple[dict[str, float], dict[str, Any]]:
    """Trains by a panel's command: the seconds that it took, and what the evaluation of the last step says."""
    with TemporaryDirectory() as parent:
        out = Path(parent) / "run"
        spent, _ = command(f"{panel}.train", *train, "--device", "cpu", "--out", out)
        last = (out, "--checkpoint", "last", "--device", "cpu", "--json")
        return spent, last_json(command(f"{panel}.evaluate", *last, *judge)[1])


def budget(steps: int) -> list[object]:
    """The recipe's own where `steps` is 0."""
    return ["--steps", steps] if steps else []


def digits(seed: int, steps: int = 0) -> dict[str, float]:
    """Accuracy on the test images of scikit-learn's digits, having learned from all training images."""
    words = ["vit-digits", "--validation", 0, "--seed", seed, *budget(steps)]
    spent, found = learn("vision", words, ["--split", "test"])
    return {"accuracy": found["test/accuracy"], **spent}


def characters(seed: int, steps: int = 0) -> dict[str, float]:
    """Nats per character over the held-out tenth of tiny Shakespeare."""
    spent, found = learn("text", ["char-cpu", "--data", "shakespeare", "--seed", seed, *budget(steps)], [])
    return {"val_loss": found["val/loss"], **spent}


def cartpole(seed: int, steps: int = 0) -> dict[str, float]:
    """What CartPole returns on average when asked for each target of the preset, and how well their order is kept."""
    short = ["--train-steps", 512] if steps else []
    with TemporaryDirectory() as folder:
        data = Path(folder) / "cartpole.npz"
        command("decision.collect", *shlex.split(COLLECTED[data.name]), "--seed", seed, "--out", data, *short)
        words = ["cartpole", "--data", data, "--seed", seed, "--eval-episodes", 0, *budget(steps)]
        spent, found = learn("decision", words, ["--episodes", 2 if steps else 100])
    parts = [key.removesuffix("/target") for key in found if key.endswith("/target")]
    reached = {f"return, asked for {found[f'{part}/target']:g}": found[f"{part}/return_mean"] for part in parts}
    correlation = found["rank_correlation"]  # None where everything reached is the same
    return {**reached, **({} if correlation is None else {"rank_correlation": correlation}), **spent}


# ---------------------------------------------------------------------------------------------- over seeds


def spread(values: Sequence[float]) -> dict[str, Any]:
    """The mean and the standard deviation of a sample; 0 where there is only one."""
    return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0, "seeds": list(values)}


def figures(found: Comparison) -> dict[str, dict[str, Any]]:
    """The spread of everything that was learned, and of the core-seconds of training."""
    [name] = found.rounds
    metrics = [metric for metric in found.metrics() if metric not in SPENT]
    return {metric: spread([measured[metric] for measured in found.rounds[name]]) for metric in metrics}


def shown(measured: dict[str, dict[str, Any]]) -> str:
    """A row for each figure: mean ± standard deviation, and every seed."""
    rows = [
        [name, f"{number(one['mean'])} ± {one['std']:.2g}", ", ".join(map(number, one["seeds"]))]
        for name, one in measured.items()
    ]
    return table(["", "mean ± std", "each seed"], rows)


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=[*RECIPES], help="default: all of them")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--steps", type=int, default=0, help="of each training, instead of the recipe's own")
    add_results(parser)
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    """Every recipe, printed and saved as soon as it is measured."""
    for recipe in options.recipes:
        side = Contestant(recipe, f"benchmarks.{NAME}:{RECIPES[recipe]}", {"steps": options.steps})
        found = compare(recipe, [side], rounds=options.seeds, threads=options.threads)
        measured = figures(found)
        print(f"\n## {recipe}, seeds 0 to {options.seeds - 1}\n\n{shown(measured)}\n", flush=True)
        about = {"provenance": dict(found.provenance), "threads": options.threads, "steps": options.steps}
        update(NAME, {recipe: {**about, "figures": measured}}, options.results)
    print(f"saved to {options.results / NAME}.json")


if __name__ == "__main__":
    main(lambda: run(parse()))
