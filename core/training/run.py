"""A training run: everything around the few lines of a training loop that differ from panel to panel.

with Run(config, unit=task.unit) as run:
    objective = run.prepare(task.objective(model), model, optimizer_factory)
    for step, batch in run.steps(task.order):
        run.update(run.backward(objective, batch, count=task.count))
        if run.due("eval"):
            with run.evaluating():
                figures = task.evaluate(run)
            run.log(figures, best=task.best, mode=task.mode)
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from core.cli.arguments import program
from core.cli.errors import Interrupted, NonFinite
from core.cli.signals import StopRequest
from core.devices import compile_in_place, to_device
from core.files.json_files import read_json
from core.files.serialize import to_dict
from core.optim.averages import EMA
from core.optim.groups import set_learning_rate
from core.optim.schedules import multiplier
from core.training.checkpoints import Checkpoints, verify, write_config
from core.training.config import Budget, RunConfig
from core.training.folder import open_folder, resume_point
from core.training.metrics import Meter, MetricsFile
from core.training.order import Batch, Order, Share
from core.training.parallel import Processes, build_accelerator, release_accelerator
from core.training.progress import Progress
from core.training.state import TrainState, random_state, restore_random_state, seed_everything

OptimizerFactory = Callable[[nn.Module], torch.optim.Optimizer]


class Gradients(NamedTuple):
    """What one backward pass added: this process's share of a mean loss, and how many it is a mean over."""

    loss: Tensor
    units: Tensor | int


def rows(*batch: Tensor) -> int:
    """The default count of a micro-batch: the rows of its first tensor."""
    return len(batch[0])


class Run:
    """One training run in its folder, from its first step or from its last checkpoint; a context manager."""

    def __init__(self, config: RunConfig, unit: str = "samples"):
        """Opens the run folder. Raises ValueError for a folder, device or precision that cannot be used."""
        self.config, self.unit, self.folder = config, unit, config.out
        self.step = 0  # optimiser steps done
        self.finished = False  # whether nothing is left of the budget
        self.best: dict[str, Any] | None = None
        self.checkpoints = Checkpoints(self.folder)
        self.budget = Budget(config.steps, config.minutes)
        self.accelerator = build_accelerator(config)
        self.device, self.processes = self.accelerator.device, Processes(self.accelerator)
        self.share = Share(self.accelerator.process_index, self.accelerator.num_processes, config.accumulate)
        self.main = self.accelerator.is_main_process
        self.progress = Progress(unit, config.steps, shown=self.main)
        self.lr = 0.0
        self._state: TrainState | None = None
        self._metrics: MetricsFile | None = None
        self._meter = Meter()
        self.stopping = False  # whether the user has asked all processes to stop after this step
        self._stop, self._save_asked = StopRequest(), False
        self._started, self._seconds_before = time.monotonic(), 0.0  # of this life; of earlier ones
        self._first: tuple[int, float] | None = None  # step and seconds of this life's first update
        try:
            self._open_folder()
        except BaseException:
            release_accelerator(self.accelerator)
            raise
        seed_everything(config.seed)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.progress.close()
        if self._metrics is not None:
            self._metrics.close()
        if kind is not None and self.main and self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
        release_accelerator(self.accelerator)

    @property
    def state(self) -> TrainState:
        """What is trained, once it is prepared."""
        if self._state is None:
            raise RuntimeError("run.prepare() comes first")
        return self._state

    def prepare(self, objective: nn.Module, model: nn.Module, build_optimizer: OptimizerFactory) -> nn.Module:
        """Moves, compiles, distributes, builds the optimiser, restores, in this order; returns the objective to call.

        `objective(*micro_batch)` gives the summed loss of a micro-batch; `model`, a part of it, is what
        checkpoints and the average hold; `build_optimizer(model)` makes what updates it.
        """
        objective.train().to(self.device)
        compile_in_place(objective, self.config.compile, self.device, self.progress.say)
        distributed = self.accelerator.prepare_model(objective)
        optimizer = build_optimizer(model)
        ema = EMA(model, self.config.ema) if self.config.ema else None
        self._state = TrainState(model, objective, optimizer, ema, self.accelerator.scaler)
        if self.share.world > 1:  # the same weights everywhere, but not the same dropout
            seed_everything(self.config.seed + 1_000_003 * (self.share.rank + 1))
        self._resume()
        self.finished = self.budget.done(self.step, self._seconds_before)
        if self.main:
            write_config(self.folder, to_dict(replace(self.config, resume=False, checkpoint="last")))
            self._metrics = MetricsFile(self.folder / "metrics.jsonl", after=self.step)
        if self.config.tracker != "none":
            self.accelerator.init_trackers("tensorboard")
        return distributed

    def log_summary(self, data: str) -> None:
        """Says what is trained on what data, and where."""
        precision = self.accelerator.mixed_precision.replace("no", "fp32")
        millions = sum(p.numel() for p in self.state.model.parameters()) / 1e6
        self.progress.say(
            f"{data}\n{millions:.2f} M parameters on {self.device.type} in {precision}; the run is in {self.folder}"
        )

    def steps(self, order: Order) -> Iterator[tuple[int, list[Batch]]]:
        """Yields (number of the step, from 1; its micro-batches on the device) until the budget is spent.

        Saves when due, and after SIGINT or SIGTERM, then raising Interrupted. `order` is asked for step - 1.
        """
        if self.finished:
            self.progress.say(f"nothing left to do: {self.folder} has its whole budget behind it")
        with self._stop:
            while not self.finished:
                before = self.step
                yield before + 1, self.to_device(order(before, self.share, self.spent))
                if self.step != before + 1:
                    raise RuntimeError("the loop over run.steps must call run.update() once per step")
                self._end_step()

    def backward(
        self, objective: nn.Module, batch: list[Batch], count: Callable[..., Tensor | int] = rows
    ) -> Gradients:
        """Adds the gradients of the mean loss over all that `count(*micro_batch)` counts, of all processes together.

        Losses and counts are summed over every micro-batch of every process before one is divided by the
        other, so that none weighs more for being shorter. Several objectives may add theirs before one update.
        """
        units = self.processes.total(sum(count(*micro) for micro in batch))
        # DDP averages the gradients of the processes; a mean over all counted needs their sum.
        scale = self.share.world / (units.clamp(min=1) if isinstance(units, Tensor) else max(1, units))
        loss = torch.zeros((), device=self.device)
        for i, micro in enumerate(batch):
            more = i < len(batch) - 1
            with self.accelerator.no_sync(objective) if more else nullcontext():
                share = objective(*micro) * scale
                self.accelerator.backward(share)
            loss += share.detach()
        return Gradients(loss / self.share.world, units)

    def update(self, *gradients: Gradients) -> None:
        """One optimiser step along the sum of the gradients: guard, clip, schedule, update, average; logs when due."""
        norm = self._clip()
        self._meter.add(sum_of(part.loss for part in gradients), norm, sum_of(part.units for part in gradients))
        if self.device.type == "cpu":  # elsewhere looking would wait for the device: done when logging and saving
            self._guard(self.step + 1)
        seconds, self.stopping = self.processes.agree(self.step, self.seconds, self._stop.made)
        spent = self.budget.spent(self.step + 0.5, seconds)  # mid-step: neither end of the schedule is wasted
        self.lr = set_learning_rate(self.state.optimizer, multiplier(self.config.schedule, spent))
        self.state.step_optimizer()
        self.step += 1
        self.finished = self.budget.done(self.step, seconds)
        self._first = self._first or (self.step, self.seconds)
        if self.state.ema:
            self.state.ema.update(self.step)
        if self.due("log"):
            self._log_training()

    def due(self, what: Literal["eval", "save", "log"]) -> bool:
        """Whether it is time to after the step just done; at the last step it always is."""
        every = {"eval": self.config.eval_every, "save": self.config.save_every, "log": self.config.log_every}
        return self.finished or self.step % every[what] == 0

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside: evaluation mode, averaged weights if any, the run's precision, no gradients.

        Training's random numbers and its units per second stay untouched.
        """
        forked = [self.device] if self.device.type == "cuda" else []
        averaged = self.state.ema.swapped_in() if self.state.ema else nullcontext()
        with (
            self._meter.paused(),
            torch.no_grad(),
            torch.random.fork_rng(forked),
            self.accelerator.autocast(),
            averaged,
        ):
            self.state.objective.eval()
            try:
                yield
            finally:
                self.state.objective.train()

    def to_device(self, batch: Sequence[Batch]) -> list[Batch]:
        """Micro-batches on the run's device, without waiting for the copies."""
        return [tuple(to_device(tensor, self.device) for tensor in micro) for micro in batch]

    def total(self, value: Any) -> Any:
        """The sum of a tensor or number over all processes, each of which may have evaluated its share."""
        return self.processes.total(value)

    def log(self, values: Mapping[str, Any], best: str = "", mode: Literal["min", "max"] = "min") -> None:
        """Writes metrics of this step; if `best` is among them, a step at which it is the best so far is saved.

        Of equal ones the later counts as better, since it has trained for longer. To be called by all processes,
        with the same values; without any, nothing is written.
        """
        if not values:
            return
        self._write(values)
        self.progress.report(self.step, values)
        if best in values:
            value = float(values[best])
            than = None if self.best is None else self.best["value"]
            improved = value == value and (than is None or (value <= than if mode == "min" else value >= than))
            if self.processes.from_main(improved):
                self.best = {"step": self.step, "metric": best, "value": value}
                self._save_asked = True

    def save(self) -> None:
        """Writes a checkpoint of the step just done. Raises NonFinite sooner than save what cannot go on."""
        with self._meter.paused():
            self._guard(self.step)
            if not self.state.finite():
                raise self._diverged("a weight is too large or not a number", self.step)
            generators = self.processes.from_all(random_state(self.device))
            if self.main:
                assert self._metrics is not None
                self._metrics.sync()
                objects = {"state": self._record()} | {f"rng-{rank}": state for rank, state in enumerate(generators)}
                self.checkpoints.write(self.step, self.state.tensors(), objects)
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

    def _open_folder(self) -> None:
        if self.main:
            open_folder(self.config)
            self.checkpoints.clean()
        self.processes.wait()

    def _resume(self) -> None:
        """Takes over the checkpoint to go on from, if there is one."""
        checkpoint = resume_point(self.config)
        if checkpoint is None:
            return
        verify(checkpoint)
        state = read_json(checkpoint / "state.json")
        self.state.restore(checkpoint, state["scaler"])
        self.step, self._seconds_before = state["step"], state["seconds"]
        if state["best"] and state["best"]["step"] in self.checkpoints.steps():
            self.best = state["best"]
        if self.main:  # killed after a checkpoint, it may have had no time for this
            self.checkpoints.point_at_best(self.best)
        self._meter.load(state["window"])
        generators = checkpoint / f"rng-{self.share.rank}.json"
        if generators.exists():  # absent when there are more processes than before
            restore_random_state(read_json(generators), self.device)
        self.progress.say(f"resuming {self.folder} at step {self.step}")

    def _record(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "window": self._meter.state(),
            "scaler": self.state.scaler_state(),
        }

    def _clip(self) -> Tensor:
        """Clips the gradients to the configured norm; returns what their norm was."""
        if self.state.scaler is not None:
            self.state.scaler.unscale_(self.state.optimizer)
        parameters = self.state.parameters()
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.config.clip:
            clip_grads_with_norm_(parameters, self.config.clip, norm)
        return norm

    def _guard(self, step: int) -> None:
        """Raises NonFinite when a step up to `step` had a loss or gradient that is not finite."""
        fault = self._meter.settle(self.processes.total, with_norms=self.state.scaler is None)
        if fault is None:
            return
        ago, what = fault
        raise self._diverged(what, step - ago)

    def _diverged(self, what: str, step: int) -> NonFinite:
        saved = self.checkpoints.steps()
        good = f"the last good checkpoint is {self.checkpoints.path(saved[-1])}" if saved else "nothing was saved yet"
        return NonFinite(f"{what} at step {step}; {good}; a lower learning rate may help")

    def _end_step(self) -> None:
        """Saves when due or asked; leaves the loop when the user asked to stop."""
        interrupted = self.stopping and not self.finished
        if self._save_asked or self.due("save") or interrupted:
            self.save()
        if interrupted:
            again = shlex.join(["python", *program(), "--out", str(self.folder), "--resume"])
            said = f"interrupted at step {self.step}, which is saved; go on with: {again}"
            raise Interrupted(said if self.main else "")

    def _log_training(self) -> None:
        self._guard(self.step)
        loss, norm, rate = self._meter.close()
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


def sum_of(parts: Iterable[Any]) -> Any:
    """The sum of one or more tensors or numbers; a single one as it is."""
    first, *others = parts
    return sum(others, first)
