"""Accuracy on CIFAR-10 for some minutes on a CPU: a preset of ours against timm's Vision Transformer of the same size.

python -m benchmarks.vision_cifar_cpu [--minutes 10] [--rate-minutes M] [--threads 2] [--rounds N] [--lr LR]

Both sides get the same images, augmentation, batch size and wall time. First, with a tenth of the training images held
out, timm's model is trained at three learning rates, in the arithmetic that was fastest for it (float32 or bfloat16,
fused or explicit attention), and ours as its preset says: accuracy on what is held out, against seconds. Then both,
timm's at its best rate, learn from all training images, and the weights of the last step meet the test images once.
The first part may be shorter, --rate-minutes; with --lr it is left out.

Writes benchmarks/results/vision_cifar_cpu.json. To try it in small: --preset vit-digits --data digits --minutes 0.05.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure.harness import Comparison, Contestant, compare, last_json
from benchmarks.measure.options import add_results, check_known, parser_of
from benchmarks.measure.record import ROOT, update
from benchmarks.peers.nanogpt import run_timed
from benchmarks.peers.timm_training import Part
from core.cli.exits import main
from core.training.metrics import read_metrics
from vision.presets import CLASSIFIERS

NAME = "vision_cifar_cpu"
HERE, THEIRS = f"benchmarks.{NAME}", "benchmarks.peers.timm_training"
RATES = (3e-4, 1e-3, 3e-3)
SHOWN = ("accuracy", "steps", "loop_seconds", "train_core_seconds")


def train(
    seed: int, preset: str, data: str, minutes: float, part: Part, device: str = "cpu", options: Sequence[str] = ()
) -> dict[str, float]:
    """`vision.train PRESET` for some minutes, then `vision.evaluate` of its last step.

    part: "validation" holds images out and judges by them, each evaluation on the way being "accuracy, S s"; "test"
    learns from all training images and judges by the test images.
    """
    with TemporaryDirectory() as parent:
        out = str(Path(parent) / "run")
        words = [preset, "--data", data, "--out", out, "--device", device, "--minutes", str(minutes)]
        all_images = ["--validation", "0"] if part == "test" else []
        command = [sys.executable, "-m", "vision.train", *words, "--seed", str(seed), *all_images, *options]
        measured, _ = run_timed(command, ROOT)
        evaluate = [sys.executable, "-m", "vision.evaluate", out, "--checkpoint", "last", "--split", part, "--json"]
        _, printed = run_timed([*evaluate, "--device", device], ROOT)
        records = read_metrics(Path(out))
    ended = {"steps": records[-1]["step"], "loop_seconds": records[-1]["seconds"]}
    return {"accuracy": last_json(printed)[f"{part}/accuracy"], **ended, **measured, **accuracies(records)}


def accuracies(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The accuracy of each evaluation of a run, named by its time."""
    found = [record for record in records if "val/accuracy" in record]
    return {f"accuracy, {record['seconds']:.0f} s": record["val/accuracy"] for record in found}


# ---------------------------------------------------------------------------------------------- comparisons


def fastest_arithmetic(options: argparse.Namespace) -> tuple[dict[str, str], Comparison]:
    """The precision and kind of attention with which timm's model trains fastest here, from a few steps of each."""
    work = {"preset": options.preset, "data": options.data}
    ways = {
        f"{precision}, {attention} attention": {"precision": precision, "attention": attention}
        for precision, attention in product(("fp32", "bf16"), ("fused", "explicit"))
    }
    sides = [Contestant(name, f"{THEIRS}:speed", {**work, **way}) for name, way in ways.items()]
    found = compare("arithmetic for timm", sides, rounds=options.speed_rounds, threads=options.threads)
    best = max(ways, key=lambda name: found.spread(name, "images_per_core_second").median)
    return ways[best], found


def contestants(
    part: Part, rates: Sequence[float], way: Mapping[str, str], options: argparse.Namespace
) -> Sequence[Contestant]:
    """Ours, then timm's at each learning rate."""
    minutes = options.rate_minutes or options.minutes if part == "validation" else options.minutes
    work = {"preset": options.preset, "data": options.data, "minutes": minutes, "part": part}
    extra = {"options": shlex.split(options.train_options)}
    theirs = [Contestant(f"timm, AdamW {lr:g}", f"{THEIRS}:train", {**work, "lr": lr, **way}) for lr in rates]
    return [Contestant("ours", f"{HERE}:train", {**work, **extra}), *theirs]


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    """The peer's arithmetic, its learning rate, and the test."""
    way, found = fastest_arithmetic(options)
    yield found
    best = options.lr
    if best is None:
        found = compare("validation", contestants("validation", RATES, way, options), threads=options.threads, rounds=1)
        yield found
        best = max(RATES, key=lambda lr: found.spread(f"timm, AdamW {lr:g}", "accuracy").median)
    yield compare("test", contestants("test", [best], way, options), threads=options.threads, rounds=options.rounds)


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a preset that is none, or no classifier's."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="wall time of each training")
    parser.add_argument("--rate-minutes", type=float, help="of each training that chooses a rate; default the same")
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--rounds", type=int, default=1, help="of the test, each with a seed of its own")
    parser.add_argument("--lr", type=float, help="of timm's model, instead of choosing it")
    parser.add_argument("--preset", default="vit-cifar-cpu", help="ours")
    parser.add_argument("--data", default="cifar10", help="a name")
    parser.add_argument("--train-options", default="", help="more options of vision.train, in one string")
    parser.add_argument("--speed-rounds", type=int, default=3, help="of a few steps in each arithmetic")
    add_results(parser)
    options = parser.parse_args(argv)
    check_known(options, preset=CLASSIFIERS)
    return options


def run(options: argparse.Namespace) -> None:
    """Everything, printed and saved as soon as it is measured."""
    for comparison in comparisons(options):
        metrics = SHOWN if "accuracy" in comparison.metrics() else ("images_per_core_second",)
        print(f"\n## {comparison.name}, {options.threads} threads\n\n{comparison.table(*metrics)}\n", flush=True)
        update(NAME, {comparison.name: comparison.as_dict()}, options.results)
    print(f"saved to {options.results / NAME}.json")


if __name__ == "__main__":
    main(lambda: run(parse()))
