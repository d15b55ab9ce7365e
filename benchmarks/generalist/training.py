"""Training one set of weights through three doors, and leaving an ordinary run folder behind each."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmarks.generalist.doors import Door, Settings, open_doors, run_settings
from benchmarks.generalist.trunk import Generalist, gradient_cosines
from core.optim.groups import build_optimizer
from core.training.config import RunConfig
from core.training.order import Batch, Share
from core.training.run import Run
from core.training.state import Gradients

MEMORY = 0.99
"""Decay per update of the running mean of a loss."""
SEVERAL = 4
"""Batches over which the gradients of tasks are compared."""


@dataclass(frozen=True, kw_only=True)
class GeneralistRun(RunConfig):
    """The run of all tasks together; each update has one batch of every panel, of that panel's own size."""

    task: ClassVar[str] = "generalist"


class Weighed(nn.Module):
    """An objective times the weight of its task, which "relative" makes from the mean that the loss has lately had."""

    def __init__(self, objective: nn.Module, weighing: str):
        super().__init__()
        self.objective, self.weighing = objective, weighing
        self.level = 0.0

    @property
    def weight(self) -> float:
        """By which the task's mean loss enters the sum."""
        return 1.0 / self.level if self.weighing == "relative" and self.level else 1.0

    def forward(self, *batch: Tensor) -> Tensor:
        """The summed loss of a micro-batch, weighed: ()."""
        loss: Tensor = self.objective(*batch) * self.weight
        return loss

    def note(self, gradients: Gradients) -> None:
        """Takes the mean loss of an update into the running mean."""
        if self.weighing == "relative":
            loss = float(gradients.loss) / self.weight
            self.level = MEMORY * self.level + (1 - MEMORY) * loss if self.level else loss


def train(out: Path, settings: Settings) -> tuple[dict[str, dict[str, float]], Tensor, int, float]:
    """One set of weights for all doors; a run folder for each under `out`.

    Returns the figures of every door, the cosines between the tasks' gradients at the end (`cosines`), the number of
    updates and the seconds of the run's clock. Raises ValueError for missing data.
    """
    doors = open_doors(out, settings)
    config = GeneralistRun(**run_settings(out / "all", settings, 1))
    with Run(config, unit="targets") as run:
        models = {name: door.build() for name, door in doors.items()}
        generalist = Generalist(models)
        objectives = {
            name: Weighed(door.task.objective(models[name]), settings.weighing) for name, door in doors.items()
        }
        run.prepare(nn.ModuleDict(objectives), generalist, partial(build_optimizer, config=config.optimizer))
        run.log_summary("; ".join(door.task.summary() for door in doors.values()))
        for _, batch in run.steps(partial(one_of_each, doors)):
            update(run, doors, objectives, batch)
        angles, seconds = cosines(generalist, doors, objectives), run.clock.seconds
    figures = {name: write_run(door, copy.deepcopy(models[name]), run.step) for name, door in doors.items()}
    return figures, angles, run.step, seconds


def one_of_each(doors: Mapping[str, Door], step: int, share: Share, progress: float) -> list[Batch]:
    """The batches of a step, one of each door: none is divided, since each is the whole of its task's."""
    return [batch for door in doors.values() for batch in door.task.order(step, share, progress)]


def update(run: Run, doors: Mapping[str, Door], objectives: Mapping[str, Weighed], batch: list[Batch]) -> None:
    """One step along the sum of all tasks' mean losses, each a mean over what its own panel counts."""
    gradients = []
    for name, micro in zip(doors, batch, strict=True):
        gradients.append(run.backward(objectives[name], [micro], count=doors[name].task.count))
        objectives[name].note(gradients[-1])
    run.update(*gradients)


def cosines(generalist: Generalist, doors: Mapping[str, Door], objectives: Mapping[str, nn.Module]) -> Tensor:
    """Cosines between the tasks' gradients in the shared weights, the mean over several batches: (N, N)."""
    generalist.eval()
    found = []
    for step in range(SEVERAL):
        batches = one_of_each(doors, step, Share(), 1.0)
        losses = [objectives[name](*batch) for name, batch in zip(doors, batches, strict=True)]
        found.append(gradient_cosines([torch.autograd.grad(loss, generalist.shared) for loss in losses]))
    return torch.stack(found).mean(0)


def write_run(door: Door, model: nn.Module, steps: int) -> dict[str, float]:
    """An ordinary run folder that holds a trained model; returns its evaluation."""
    config = replace(door.config, steps=steps, minutes=None)
    with door.evaluating(), Run(config, unit=door.task.unit) as run:
        door.save_data(run.folder)
        run.prepare(door.task.objective(model), model, partial(build_optimizer, config=config.optimizer))
        run.step = steps
        with run.evaluating():
            figures: dict[str, float] = door.task.evaluate(run)
        run.log(figures, best=door.task.best, mode=door.task.mode)
        run.save()
    return figures
