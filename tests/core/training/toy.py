"""A whole training program over `core.training`, small enough to be killed, resumed and launched many times."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.cli.exits import main
from core.optim.config import OptimizerConfig, ScheduleConfig
from core.optim.groups import build_optimizer
from core.training.command import parse
from core.training.config import RunConfig
from core.training.order import Batch, Share, drawn, share
from core.training.run import Run
from core.training.trained import save_data_record

VOCABULARY, LENGTH, IGNORED = 17, 12, -100


@dataclass(frozen=True, kw_only=True)
class ToyConfig(RunConfig):
    """Trains a toy."""

    width: int = 16
    """Channels."""
    dropout: float = 0.0
    """Probability of dropping a channel."""
    poison: int = 0
    """Step whose first row, which process 0 has, makes the loss not a number; 0 is none."""
    objectives: Literal["one", "two"] = "one"
    """Whether a second objective, the same sequences read backwards, adds its gradients to every update."""
    frozen: Literal["none", "blocks"] = "none"
    """What is not trained."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(kind="muon", muon_precision="fp32"))


PRESETS = {
    "toy": ToyConfig(steps=20, batch_size=8, eval_every=5, save_every=5, log_every=3, precision="fp32"),
    "toy-wsd": ToyConfig(minutes=1.0, batch_size=8, schedule=ScheduleConfig(kind="wsd")),
}


class StackedLinear(nn.Linear):
    """Three matrices in one, as the core's attention has."""

    def __init__(self, width: int):
        super().__init__(width, 3 * width, bias=False)
        self.sizes = (width, width, width)


class Block(nn.Module):
    """A gate, a value and a shift from one product, then a wide layer."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm, self.three = nn.LayerNorm(width), StackedLinear(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        gate, value, shift = self.three(self.norm(x)).chunk(3, dim=-1)
        x = x + gate.sigmoid() * value.cumsum(dim=1) / LENGTH + shift
        return x + self.dropout(self.down(F.gelu(self.up(x))))


class Toy(nn.Module):
    """Embedding, blocks, and a head tied to the embedding."""

    def __init__(self, config: ToyConfig):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.dropout) for _ in range(2))
        self.head = nn.Linear(config.width, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight

    def layered_modules(self) -> list[list[nn.Module]]:
        """The blocks, by depth (`core.optim.groups`)."""
        return [[self.embedding], *([block] for block in self.blocks)]

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)"""
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class SummedLoss(nn.Module):
    """Summed cross-entropy of the targets that are not ignored."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """(B, T), (B, T), (B, 1) -> scalar; `weight` multiplies the logits and is 1 unless poisoned."""
        logits = self.model(ids) * weight[..., None]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")


def counted(ids: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """The targets that are not ignored."""
    return (targets != IGNORED).sum()


class Sequences:
    """Noisy counting; every row ignores a different number of targets."""

    def __init__(self, config: ToyConfig):
        self.config = config
        generator = np.random.default_rng(0)
        steps = generator.integers(1, 4, size=(64, LENGTH + 1))
        self.ids = torch.from_numpy(steps.cumsum(axis=1) % VOCABULARY)
        self.targets = self.ids[:, 1:].clone()
        for row, ignored in enumerate(generator.integers(0, LENGTH, size=64)):
            self.targets[row, :ignored] = IGNORED

    def order(self, step: int, taken: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step."""
        chosen = drawn(self.config.seed, step, self.config.batch_size, len(self.ids))
        weight = torch.ones(self.config.batch_size, 1)
        weight[0] = float("nan" if step + 1 == self.config.poison else 1)
        places = share(np.arange(self.config.batch_size), *taken)
        return [(self.ids[chosen[each], :-1], self.targets[chosen[each]], weight[each]) for each in places]


def backwards(batch: list[Batch]) -> list[Batch]:
    """Every sequence from its end, with fewer targets that count."""
    return [
        (ids.flip(1), targets.flip(1).masked_fill(targets.flip(1) < VOCABULARY // 2, IGNORED), weight)
        for ids, targets, weight in batch
    ]


def train(config: ToyConfig) -> Toy:
    """Trains as the panels do."""
    data = Sequences(config)
    with Run(config, unit="tokens") as run:
        model = Toy(config)
        model.blocks.requires_grad_(config.frozen == "none")
        with run.processes.recording_data(run.folder) as folder:
            if fingerprint := os.environ.get("TOY_DATA"):
                save_data_record(folder, "toy", fingerprint)
        objective = run.prepare(SummedLoss(model), model, partial(build_optimizer, config=config.optimizer))
        for _, batch in run.steps(data.order):
            batches = [batch] if config.objectives == "one" else [batch, backwards(batch)]
            run.update(*(run.backward(objective, each, count=counted) for each in batches))
            if run.due("eval"):
                with run.evaluating():
                    loss = F.cross_entropy(model(data.ids[:, :-1]).flatten(0, 1), data.ids[:, 1:].flatten())
                run.log({"val/loss": loss.item()}, best="val/loss")
    return model


def live(arguments: list[str], log: Path, environment: dict[str, str], largest_file: int) -> None:
    """One life of the program in this process: exits as the command does, writing stderr to `log`."""
    os.environ |= environment
    sys.stderr = log.open("a", buffering=1)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    torch.set_num_threads(1)
    main(lambda: train(parse(ToyConfig, PRESETS, arguments)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(lambda: train(parse(ToyConfig, PRESETS)))
