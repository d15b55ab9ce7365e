"""A training run: everything around the three lines of a training loop that differ from panel to panel.

with Run(config, unit="tokens") as run:
    objective = run.prepare(NextTokenLoss(model), model, build_optimizer(model, config.optimizer))
    for step, batch in run.steps(order):
        run.backward(objective, batch, count=valid_targets)
        run.update()
        if run.due("eval"):
            with run.evaluating():
                figures = evaluate(model, validation)
            run.log(figures, best="val/loss")
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from core.cli.errors import Interrupted, NonFinite
from core.cli.launch import program
from core.cli.signals import StopRequest
from core.files.json_files import read_json
from core.files.serialize import to_dict
from core.optim.averages import EMA
from core.optim.groups import set_learning_rate
from core.optim.schedules import multiplier
from core.training import devices, random_state
from core.training.budget import Budget
from core.training.checkpoints import Checkpoints, verify, write_config
from core.training.config import RunConfig
from core.training.folder import open_folder, resume_point
from core.training.meter import Window
from core.training.metrics import MetricsFile
from core.training.parallel import Processes
from core.training.progress import Progress
from core.training.state import TrainState

Batch = tuple[Tensor, ...]


class Order(Protocol):
    """Which data belongs to which step: a pure function, so that a resumed run needs no replay."""

    def __call__(self, step: int, rank: int, world: int, accumulate: int) -> Sequence[Batch]:
        """The `accumulate` micro-batches of process `rank` of `world`, `step` steps after the start."""


def rows(*batch: Tensor) -> int:
    """The default count of a micro-batch: the rows of its first tensor."""
    return len(batch[0])


class Run:
    """One training run in its folder, from its first step or from its last checkpoint; a context manager."""

    def __init__(self, config: RunConfig, unit: str = "samples"):
        self.config, self.unit, self.folder = config, unit, config.out
        self.step = 0  # optimiser steps done
        self.last = False  # whether the step just done was the last of the budget
        self.best: dict[str, Any] | None = None
        self.checkpoints = Checkpoints(self.folder)
        self.budget = Budget(config.steps, config.minutes)
        self._window = Window()
        self._loss = torch.zeros(())
        self._units: Tensor | int = 0
        self._seconds_before = 0.0  # of earlier lives
        self._first: tuple[int, float] | None = None  # step and seconds of this life's first update
        self._save_asked = False
        self._metrics: MetricsFile | None = None

    def __enter__(self) -> Run:
        self._started = time.monotonic()
        self.accelerator = devices.build_accelerator(self.config)
        self.device, self.world = self.accelerator.device, self.accelerator.num_processes
        self.processes = Processes(self.accelerator)
        self.rank, self.main = self.accelerator.process_index, self.accelerator.is_main_process
        try:
            if self.main:
                open_folder(self.config)
                self.checkpoints.clean()
            self.processes.wait()
        except BaseException:
            devices.release_accelerator(self.accelerator)
            raise
        self.progress = Progress(self.unit, self.config.steps, shown=self.main)
        random_state.seed_everything(self.config.seed)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.progress.close()
        if self._metrics is not None:
            self._metrics.close()
        if kind is not None and self.main and self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
        devices.release_accelerator(self.accelerator)

    def prepare(self, objective: nn.Module, model: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
        """Moves, restores, compiles and distributes; returns the objective to call.

        `objective(*micro_batch)` gives the summed loss of a micro-batch; `model`, a part of it, is what
        checkpoints and the average hold; `optimizer` updates it.
        """
        objective.to(self.device)
        ema = EMA(model, self.config.ema) if self.config.ema else None
        self.learner = TrainState(model, optimizer, ema, self.accelerator.scaler)
        self._objective = objective
        self._parameters = self.learner.parameters()
        if self.world > 1:  # the same weights everywhere, but not the same dropout
            random_state.seed_everything(self.config.seed + 1_000_003 * (self.rank + 1))
        self._resume()
        if self.main:
            write_config(self.folder, to_dict(replace(self.config, resume=False, checkpoint="last")))
            self._metrics = MetricsFile(self.folder / "metrics.jsonl", after=self.step)
        if self.config.tracker != "none":
            self.accelerator.init_trackers("tensorboard")
        devices.compile_in_place(objective, self.config.compile, self.device, self.progress.say)
        return self.accelerator.prepare_model(objective.train())

    def steps(self, order: Order) -> Iterator[tuple[int, list[Batch]]]:
        """Yields (number of the step, from 1; its micro-batches on the device) until the budget is spent.

        Saves when due, and after SIGINT or SIGTERM, then raising Interrupted. `order` is asked for step - 1.
        """
        finished = self.budget.done(self.step, self._seconds_before)
        if finished:
            self.progress.say(f"nothing left to do: {self.folder} has its whole budget behind it")
        with StopRequest() as self._stop:
            while not (finished or self.last):
                before = self.step
                yield before + 1, self.to_device(order(before, self.rank, self.world, self.config.accumulate))
                if self.step != before + 1:
                    raise RuntimeError("the loop over run.steps must call run.update() once per step")
                self._end_step()

    def backward(self, objective: nn.Module, batch: list[Batch], count: Callable[..., Tensor | int] = rows) -> Tensor:
        """Gradients of the mean loss over all that `count(*micro_batch)` counts, of all processes together.

        Losses and counts are summed over every micro-batch of every process before one is divided by the
        other, so that none weighs more for being shorter. Returns this process's share of the mean.
        """
        self._units = self.processes.total(sum(count(*micro) for micro in batch))
        # DDP averages the gradients of the processes; a mean over all counted needs their sum.
        scale = self.world / (self._units.clamp(min=1) if isinstance(self._units, Tensor) else max(1, self._units))
        loss = torch.zeros((), device=self.device)
        for i, micro in enumerate(batch):
            more = i < len(batch) - 1
            with self.accelerator.no_sync(objective) if more else nullcontext():
                share = objective(*micro) * scale
                self.accelerator.backward(share)
            loss += share.detach()
        self._loss = loss / self.world
        return self._loss

    def update(self) -> None:
        """One optimiser step: guard, clip, schedule, update, average; logs when due."""
        norm = self._clip()
        self._window.add(self._loss, norm, self._units)
        if self.device.type == "cpu":  # elsewhere looking would wait for the device: done when logging and saving
            self._guard(self.step + 1)
        seconds, self._stopping = self.processes.agree(self.step, self.seconds, self._stop.made)
        spent = self.budget.spent(self.step + 0.5, seconds)  # mid-step: neither end of the schedule is wasted
        self.lr = set_learning_rate(self.learner.optimizer, multiplier(self.config.schedule, spent))
        self._optimizer_step()
        self.step += 1
        self.last = self.budget.done(self.step, seconds)
        self._first = self._first or (self.step, self.seconds)
        if self.learner.ema:
            self.learner.ema.update(self.step)
        if self.due("log"):
            self._log_training()

    def due(self, what: Literal["eval", "save", "log"]) -> bool:
        """Whether it is time to after the step just done; at the last step it always is."""
        every = {"eval": self.config.eval_every, "save": self.config.save_every, "log": self.config.log_every}
        return self.last or self.step % every[what] == 0

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside: evaluation mode, averaged weights if any, the run's precision, no gradients.

        Training's random numbers and its units per second stay untouched.
        """
        forked = [self.device] if self.device.type == "cuda" else []
        lent = self.learner.ema.lent() if self.learner.ema else nullcontext()
        with (
            self._window.paused(),
            torch.no_grad(),
            torch.random.fork_rng(forked),
            self.accelerator.autocast(),
            lent,
        ):
            self._objective.eval()
            try:
                yield
            finally:
                self._objective.train()

    def to_device(self, batch: Sequence[Batch]) -> list[Batch]:
        """Micro-batches on the run's device, without waiting for the copies."""
        return [tuple(devices.to_device(tensor, self.device) for tensor in micro) for micro in batch]

    def total(self, value: Any) -> Any:
        """The sum of a tensor or number over all processes, each of which may have evaluated its share."""
        return self.processes.total(value)

    def log(self, values: Mapping[str, Any], best: str = "", mode: Literal["min", "max"] = "min") -> None:
        """Writes metrics of this step; with `best`, a step at which that metric is the best so far is saved.

        Of equal ones the later counts as better, since it has learnt for longer.
        To be called by all processes, with the same values.
        """
        self._write(values)
        self.progress.report(self.step, values)
        if best:
            value = float(values[best])
            than = None if self.best is None else self.best["value"]
            improved = value == value and (than is None or (value <= than if mode == "min" else value >= than))
            if self.processes.from_main(improved):
                self.best = {"step": self.step, "metric": best, "value": value}
                self._save_asked = True

    def save(self) -> None:
        """Writes a checkpoint of the step just done. Raises NonFinite sooner than save what cannot go on."""
        with self._window.paused():
            self._guard(self.step)
            if not self.learner.finite():
                raise self._diverged("a weight is too large or not a number", self.step)
            generators = self.processes.from_all(random_state.take(self.device))
            if self.main:
                assert self._metrics is not None
                self._metrics.sync()
                objects = {"state": self._state()} | {f"rng-{rank}": state for rank, state in enumerate(generators)}
                self.checkpoints.write(self.step, self.learner.tensors(), objects)
                self.checkpoints.point_at_best(self.best)
                self.checkpoints.prune(self.config.keep)
            self.processes.wait()
        self._save_asked = False

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, evaluation and earlier lives included."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def spent(self) -> float:
        """The fraction of the budget that is gone; may exceed 1."""
        return self.budget.spent(self.step, self.seconds)

    def _resume(self) -> None:
        """Takes over the checkpoint to go on from, if there is one."""
        checkpoint = resume_point(self.config)
        if checkpoint is None:
            return
        verify(checkpoint)
        state = read_json(checkpoint / "state.json")
        self.learner.restore(checkpoint, state["scaler"])
        self.step, self._seconds_before = state["step"], state["seconds"]
        if state["best"] and state["best"]["step"] in self.checkpoints.steps():
            self.best = state["best"]
        if self.main:  # killed after a checkpoint, it may have had no time for this
            self.checkpoints.point_at_best(self.best)
        self._window.load(state["window"])
        generators = checkpoint / f"rng-{self.rank}.json"
        if generators.exists():  # absent when there are more processes than before
            random_state.put_back(read_json(generators), self.device)
        self.progress.say(f"resuming {self.folder} at step {self.step}")

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "window": self._window.state(),
            "scaler": self.learner.scaler_state(),
        }

    def _clip(self) -> Tensor:
        """Clips the gradients to the configured norm; returns what their norm was."""
        if self.learner.scaler is not None:
            self.learner.scaler.unscale_(self.learner.optimizer)
        norm = get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        if self.config.clip:
            clip_grads_with_norm_(self._parameters, self.config.clip, norm)
        return norm

    def _guard(self, step: int) -> None:
        """Raises NonFinite when a step up to `step` had a loss or gradient that is not finite."""
        fault = self._window.settle(self.processes.total, with_norms=self.learner.scaler is None)
        if fault is None:
            return
        ago, what = fault
        raise self._diverged(what, step - ago)

    def _diverged(self, what: str, step: int) -> NonFinite:
        saved = self.checkpoints.steps()
        good = f"the last good checkpoint is {self.checkpoints.path(saved[-1])}" if saved else "nothing was saved yet"
        return NonFinite(f"{what} at step {step}; {good}; a lower learning rate may help")

    def _optimizer_step(self) -> None:
        optimizer, scaler = self.learner.optimizer, self.learner.scaler
        if scaler is None:
            optimizer.step()
        else:  # skips the step when the scaled gradients overflowed
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def _end_step(self) -> None:
        """Saves when due or asked; leaves the loop when the user asked to stop."""
        interrupted = self._stopping and not self.last
        if self._save_asked or self.due("save") or interrupted:
            self.save()
        if interrupted:
            again = shlex.join(["python", *program(), "--out", str(self.folder), "--resume"])
            said = f"interrupted at step {self.step}, which is saved; go on with: {again}"
            raise Interrupted(said if self.main else "")

    def _log_training(self) -> None:
        self._guard(self.step)
        loss, norm, rate = self._window.close()
        lr, speed = self.lr, f"train/{self.unit}_per_second"
        self._write({"train/loss": loss, "train/lr": lr, "train/grad_norm": norm, speed: rate})
        left = self.budget.left(self.step, self.seconds, self._pace())
        self.progress.update(self.step, self.spent, loss, rate, left)

    def _pace(self) -> float:
        """Seconds per step in this life after its first, which may have had to compile."""
        step, seconds = self._first or (self.step, 0.0)
        return (self.seconds - seconds) / (self.step - step) if self.step > step else math.inf

    def _write(self, values: Mapping[str, Any]) -> None:
        if self._metrics is not None:
            self._metrics.write(self.step, self.seconds, values)
        if self.config.tracker != "none":
            self.accelerator.log(dict(values), step=self.step)
