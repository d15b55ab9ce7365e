"""Against timm, vit-pytorch and torchvision, side by side on a CPU: a training step, and an epoch with its data.

python -m benchmarks.vision_vs_peers [--parts step,epoch] [--rounds N] [--threads N]

- step: forward, cross-entropy, backward, clipping and fused AdamW of a Vision Transformer (32 pixels, patches of 4,
  192 wide, 6 blocks, 3 heads, mean pooling) on one batch of 128 random images; eager and compiled, in float32 and by
  autocast in bfloat16. One loop for all, so that only the models differ; `ours` is timm's block with learned positions,
  `ours, modern` the block of our presets, `ours in vision.train` the first one with all that `Run` does around a step.
- epoch: CIFAR-10 cropped, flipped, changed by two operations of RandAugment, normalised, partly erased, and batched:
  our uint8 tensors varied a batch at a time against a torchvision dataset, transforms and DataLoader; the data alone,
  and with the same training step of a small model behind both.

The last row of each table is the fastest peer, by which the others are divided. A peer that is not installed
(pip install -e .[peers]) is left out. Each comparison replaces its own in benchmarks/results/vision_vs_peers.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from benchmarks.harness import Comparison, Contestant, compare
from benchmarks.record import RESULTS, update
from benchmarks.timing import peak_memory, time_steps
from benchmarks.vision_peers import PACKAGES, installed, peer_model, torchvision_loader
from core.training.cli import main
from core.training.config import OptimizerConfig
from core.training.devices import autocast, compile_in_place
from core.training.fetch import data_root
from core.training.optimizers import build_optimizer
from core.training.run import Run
from vision.augment import Augment, AugmentConfig
from vision.config import TrainConfig
from vision.data import TrainingImages, load_data
from vision.models import ClassificationLoss, ViT, ViTConfig
from vision.presets import modern_core, plain_core

NAME = "vision_vs_peers"
HERE = f"benchmarks.{NAME}"
ROUNDS = {"step": 5, "epoch": 3}
MANY = 1_000_000  # steps: never reached

PLAIN = ViTConfig(channels=3, classes=10, coordinates="raster", core=plain_core(192, 6, 3))
SHAPES = {
    "plain": PLAIN,
    "modern": replace(PLAIN, coordinates="grid", core=modern_core(192, 6, 3)),
    "small": replace(PLAIN, core=plain_core(96, 4, 3)),
    "tiny": replace(PLAIN, core=plain_core(32, 2, 2)),
    "tiny-modern": replace(PLAIN, coordinates="grid", core=modern_core(32, 2, 2)),
}
VARIED = AugmentConfig(crop="shift", shift=4, flip="random", operations=2, strength=3.0, erase="random")
"""What `torchvision_loader` does: its magnitude 9 is of 30, so its rotations, say, are of 9 degrees at most, as here.

Where the two differ, the peer has less to do: its borders and what it erases are black, ours reflected and noise."""
WAYS = {
    "eager-fp32": ("off", "fp32"),
    "eager-bf16": ("off", "bf16"),
    "compiled-fp32": ("default", "fp32"),
    "compiled-bf16": ("default", "bf16"),
}


# ---------------------------------------------------------------------------------------------- one step


def build(side: str, shape: str, seed: int) -> nn.Module:
    """A contestant's model with random weights."""
    torch.manual_seed(seed)
    return peer_model(side, SHAPES[shape]) if side in PACKAGES else ViT(SHAPES[shape])


def random_batch(batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (B, 3, 32, 32) float32 and labels (B,) that all sides train on."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, 32, 32, generator=generator), torch.randint(10, (batch,), generator=generator)


class Learner:
    """The training step that all sides share: mean cross-entropy, gradient norm at most 1, fused AdamW."""

    def __init__(self, model: nn.Module, compiled: str, precision: str):
        self.objective = ClassificationLoss(cast(ViT, model)).train()
        self.precision = precision
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
        compile_in_place(self.objective, compiled, torch.device("cpu"), lambda notice: print(notice, file=sys.stderr))

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Learns from a batch; returns its mean loss."""
        with autocast(self.precision, images.device):
            loss = self.objective(images, labels) / len(labels)
        loss.backward()
        clip_grad_norm_(self.objective.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def train_step(
    seed: int, side: str, shape: str, batch: int, compiled: str, precision: str, steps: int
) -> dict[str, float]:
    """A training step, side by side the same but for the model."""
    learner = Learner(build(side, shape, seed), compiled, precision)
    images, labels = random_batch(batch, seed)
    return measure_steps(lambda: learner.step(images, labels), batch, steps)


def train_step_in_run(seed: int, shape: str, batch: int, compiled: str, precision: str, steps: int) -> dict[str, float]:
    """The same step with all that `vision.train` does around it: order, guard, log, schedule."""
    with TemporaryDirectory() as folder:
        config = TrainConfig(
            out=Path(folder),
            seed=seed,
            steps=MANY,
            eval_every=MANY,
            save_every=MANY,
            batch_size=batch,
            device="cpu",
            compile=cast(Any, compiled),
            precision=cast(Any, precision),
            optimizer=OptimizerConfig(weight_decay=0.05),
        )
        with Run(config, unit="images") as run:
            model = cast(ViT, build("ours", shape, seed))
            objective = run.prepare(ClassificationLoss(model), model, build_optimizer(model, config.optimizer))
            same = random_batch(batch, seed)
            order = run.steps(lambda step, rank, world, accumulate: [same])

            def step() -> Tensor:
                _, micro_batches = next(order)
                loss = run.backward(objective, micro_batches)
                run.update()
                return loss

            return measure_steps(step, batch, steps)


def measure_steps(step: Callable[[], Tensor], batch: int, steps: int) -> dict[str, float]:
    """Images per (core-)second, `growth_bytes` of memory over what was held before, and the loss of the first step."""
    before, started = peak_memory(), time.perf_counter()
    first = {"first_loss": step().item(), "first_step_seconds": time.perf_counter() - started}
    timed = time_steps(step, warmup=2, rounds=steps)
    return {
        "images_per_core_second": batch / timed["step_core_seconds"],
        "images_per_second": batch / timed["step_seconds"],
        "growth_bytes": timed["peak_bytes"] - before,
        **timed,
        **first,
    }


# ---------------------------------------------------------------------------------------------- an epoch


def our_batches(images: int, batch: int, seed: int) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
    """The batches of an epoch as `vision.train` makes them: by its number -> (images (B, 3, 32, 32), labels (B,))."""
    data = load_data("cifar10", size=32, validation=0)
    chosen = data.train.subset(np.arange(images))
    order = TrainingImages(chosen, batch, seed)
    augment = Augment(VARIED, data.preparation, PLAIN, batch, images, seed)
    steps = images // batch

    def epoch(number: int) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(number * steps, (number + 1) * steps):
            yield from augment(order.batch(step), step)

    return epoch


def their_batches(images: int, batch: int, workers: int, seed: int) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
    """The same from torchvision and a DataLoader."""
    torch.manual_seed(seed)
    loader = torchvision_loader(data_root() / "cifar10", images, batch, workers)
    return lambda number: iter(loader)


def epoch(
    seed: int, side: str, images: int, batch: int, shape: str, workers: int = 0, precision: str = "auto"
) -> dict[str, float]:
    """Images per second of one epoch, after another to warm up; `shape`: the model that learns from them, or "none".

    side: "ours" or "torchvision". Core-seconds are those of this process and its workers.
    """
    make = our_batches(images, batch, seed) if side == "ours" else their_batches(images, batch, workers, seed)
    learner = None if shape == "none" else Learner(build("ours", shape, seed), "off", precision)
    use_all(make(0), learner)
    wall, core = time.perf_counter(), busy_seconds()
    used = use_all(make(1), learner)
    wall, core = time.perf_counter() - wall, busy_seconds() - core
    return {"images": used, "images_per_core_second": used / core, "images_per_second": used / wall}


def use_all(batches: Iterator[tuple[Tensor, Tensor]], learner: Learner | None) -> int:
    """Learns from every batch, or only receives it; how many images there were."""
    used = 0
    for images, labels in batches:
        used += len(labels)
        if learner is not None:
            learner.step(images, labels)
    return used


def busy_seconds() -> float:
    """CPU time of this process and of its living children, to a hundredth of a second."""
    import psutil

    here = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (here, *here.children(recursive=True)))


# ---------------------------------------------------------------------------------------------- comparisons


def compare_steps(options: argparse.Namespace) -> Iterator[Comparison]:
    """Eager and compiled, in float32 and bfloat16."""
    plain, modern = ("tiny", "tiny-modern") if options.tiny else ("plain", "modern")
    for way in options.ways:
        compiled, precision = WAYS[way]
        work = {"shape": plain, "batch": options.batch, "compiled": compiled, "precision": precision}
        work["steps"] = options.steps
        step, in_run = f"{HERE}:train_step", f"{HERE}:train_step_in_run"
        sides = [
            Contestant("ours", step, {"side": "ours", **work}),
            Contestant("ours, modern", step, {"side": "ours", **work, "shape": modern}),
            Contestant("ours in vision.train", in_run, work),
            *(Contestant(peer, step, {"side": peer, **work}) for peer in options.peers),
        ]
        yield against_fastest(compare(f"step {way}", sides, **_rounds(options, "step")), options.peers)


def compare_epochs(options: argparse.Namespace) -> Iterator[Comparison]:
    """The data alone, then with a model that learns."""
    loaders = {f"torchvision, {n} workers": n for n in options.workers}
    for shape in ("none", "tiny" if options.tiny else "small"):
        work = {"images": options.images, "batch": options.batch, "shape": shape}
        theirs = {"side": "torchvision", **work}
        sides = [
            Contestant("ours", f"{HERE}:epoch", {"side": "ours", **work}),
            *(Contestant(name, f"{HERE}:epoch", {**theirs, "workers": n}) for name, n in loaders.items()),
        ]
        kind = "data alone" if shape == "none" else "with a training step"
        yield against_fastest(compare(f"epoch, {kind}", sides, **_rounds(options, "epoch")), list(loaders))


def against_fastest(comparison: Comparison, peers: Sequence[str]) -> Comparison:
    """The comparison with its fastest peer in the last row, by which all others are divided."""
    if not peers:
        return comparison
    fastest = max(peers, key=lambda peer: comparison.spread(peer, "images_per_core_second").median)
    return replace(comparison, contestants=tuple(sorted(comparison.contestants, key=lambda side: side.name == fastest)))


def _rounds(options: argparse.Namespace, part: str) -> dict[str, Any]:
    return {"rounds": options.rounds or ROUNDS[part], "threads": options.threads}


PARTS = {"step": compare_steps, "epoch": compare_epochs}
SHOWN = {
    "step": ("images_per_core_second", "images_per_second", "growth_bytes"),
    "epoch": ("images_per_core_second", "images_per_second"),
}


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a part, peer or way that is none."""
    parser = argparse.ArgumentParser(prog=f"python -m {HERE}", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", type=names, default=list(PARTS), help="of step,epoch")
    parser.add_argument("--rounds", type=int, help=f"of each comparison; default {ROUNDS}")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    parser.add_argument("--batch", type=int, default=128, help="images of a step")
    parser.add_argument("--steps", type=int, default=10, help="step: measured in each process")
    parser.add_argument("--peers", type=names, default=list(PACKAGES), help="step: of timm,vit-pytorch")
    parser.add_argument("--ways", type=names, default=list(WAYS), help=f"step: of {','.join(WAYS)}")
    parser.add_argument("--images", type=int, default=5120, help="epoch: images in it")
    parser.add_argument("--workers", type=integers, default=[0, 2], help="epoch: of the DataLoader, each in turn")
    parser.add_argument("--tiny", action="store_true", help="models of 32 channels and 2 blocks, to try")
    options = parser.parse_args(argv)
    for name, known in (("parts", PARTS), ("peers", PACKAGES), ("ways", WAYS)):
        if unknown := set(getattr(options, name)) - set(known):
            raise ValueError(f"{name} = {sorted(unknown)[0]!r} is not one of: {', '.join(known)}")
    return options


def names(words: str) -> list[str]:
    return words.split(",")


def integers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


def run(options: argparse.Namespace) -> None:
    """Every part asked for, printed and saved as soon as it is measured."""
    options.peers = present(options.peers)
    for part in options.parts:
        for comparison in PARTS[part](options):
            shown = comparison.table(*SHOWN[part])
            print(f"\n## {comparison.name}, {options.threads} thread(s)\n\n{shown}\n", flush=True)
            update(NAME, {comparison.name: comparison.as_dict()}, options.results)
    print(f"saved to {options.results / NAME}.json")


def present(peers: Sequence[str]) -> list[str]:
    """Those that are installed; the others are named in a notice."""
    for absent in set(peers) - set(installed()):
        print(f"notice: {absent} is not installed and is left out: pip install -e .[peers]", file=sys.stderr)
    return [peer for peer in peers if peer in installed()]


if __name__ == "__main__":
    main(lambda: run(parse()))
