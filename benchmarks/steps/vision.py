"""A training step of a Vision Transformer, the same for every side of a comparison but for the model."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from benchmarks.measure.timing import time_steps
from benchmarks.peers.vision import PACKAGES, peer_model
from core.devices import autocast, compile_in_place
from core.memory import peak_memory
from core.optim.config import OptimizerConfig
from core.optim.groups import build_optimizer
from core.training.run import Run
from vision.config import TrainConfig
from vision.models.config import ViTConfig
from vision.models.vit import ViT
from vision.presets import modern_core, plain_core
from vision.tasks.classification import ClassificationLoss

MANY = 1_000_000  # steps: never reached
PLAIN = ViTConfig(channels=3, classes=10, coordinates="raster", core=plain_core(192, 6, 3))
SHAPES = {
    "plain": PLAIN,
    "modern": replace(PLAIN, coordinates="grid", core=modern_core(192, 6, 3)),
    "small": replace(PLAIN, core=plain_core(96, 4, 3)),
    "tiny": replace(PLAIN, core=plain_core(32, 2, 2)),
    "tiny-modern": replace(PLAIN, coordinates="grid", core=modern_core(32, 2, 2)),
}


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
            objective = run.prepare(ClassificationLoss(model), model, partial(build_optimizer, config=config.optimizer))
            same = random_batch(batch, seed)
            order = run.steps(lambda step, share, progress: [same])

            def step() -> Tensor:
                _, micro_batches = next(order)
                gradients = run.backward(objective, micro_batches)
                run.update(gradients)
                return gradients.loss

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
