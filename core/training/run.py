"""A training run: everything but the few lines of a training loop that differ from panel to panel (`Task and Run` in
docs/architecture.md shows them).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor, nn

from core.cli.exits import NonFinite, StopRequest, uninterrupted
from core.devices import to_device
from core.files.json_files import read_json
from core.files.serialize import to_dict
from core.optim.groups import set_learning_rate
from core.training import parallel
from core.training.checkpoints import Checkpoints, verify, write_config
from core.training.config import RunConfig
from core.training.folder import interrupted, last_saved, open_folder, resume_point
from core.training.metrics import Meter, MetricsFile, improves
from core.training.order import Batch, Order, Share
from core.training.progress import Clock, Progress
from core.training.state import (
    Generators,
    Gradients,
    TrainState,
    random_state,
    restore_random_state,
    rows,
    seed_everything,
    torch_state,
)
from core.training.throughput import PROFILE, Profile, Work, memory_used


class Run:
    """One training run in its folder, from its first step or from its last checkpoint; a context manager."""

    def __init__(self, config: RunConfig, unit: str = "samples"):
        """Opens the run folder. Raises ValueError for a folder, device or precision that cannot be used."""
        self.config, self.unit, self.folder = config, unit, config.out
        self.step = 0  # optimiser steps done
        self.lr = 0.0  # of the step just done
        self.finished = False  # whether nothing is left of the budget
        self.stopping = False  # whether the user has asked all processes to stop after this step
        self.best: dict[str, Any] | None = None
        self.checkpoints = Checkpoints(self.folder)
        self.accelerator = parallel.build_accelerator(config)
        self.device, self.processes = self.accelerator.device, parallel.Processes(self.accelerator)
        self.total = self.processes.total  # the sum over all processes, each of which may have evaluated its share
        self.share = Share(self.accelerator.process_index, self.accelerator.num_processes, config.accumulate)
        self.main = self.accelerator.is_main_process
        self.clock = Clock(config.steps, config.minutes, config.clock)
        self.progress = Progress(unit, config.steps, shown=self.main)
        self._state: TrainState | None = None
        self._objective: nn.Module | None = None
        self._metrics: MetricsFile | None = None
        self._work: Work | None = None  # counted where the device's peak is known
        self._meter = Meter(unit)
        self._profile = Profile(self.folder / PROFILE, config.profile if self.main else None, self.progress.say)
        self._stop, self._save_asked = StopRequest(self._answer), False
        self._generators: dict[str, Tensor] = {}  # torch's, as they were after the step just done
        try:
            if config.epochs is not None:
                raise RuntimeError("epochs are turned into steps first: core.training.config.with_steps")
            parallel.check_launch(config, self.processes)
            self._notes = self.processes.in_main(lambda: open_folder(config))  # what differs from the run resumed
        except BaseException:
            parallel.release_accelerator(self.accelerator)
            raise
        seed_everything(config.seed)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is KeyboardInterrupt:
                self._rescue()
        finally:
            self.progress.close()
            if self._metrics is not None:
                self._metrics.close()
            if kind is not None and self.main and self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()
            parallel.release_accelerator(self.accelerator)
        if kind is KeyboardInterrupt and self.step and self.step in self.checkpoints.steps():
            raise interrupted(self.step, self.folder if self.main else None)

    @property
    def state(self) -> TrainState:
        """What is trained, once it is prepared."""
        if self._state is None:
            raise RuntimeError("run.prepare() comes first")
        return self._state

    def prepare(self, objective: nn.Module, model: nn.Module, build_optimizer: parallel.OptimizerFactory) -> nn.Module:
        """Compiles and distributes the objective, builds the optimiser, restores; returns the objective to call.

        `objective(*micro_batch)` gives the summed loss of a micro-batch; `model`, a part of it, is what
        checkpoints and the average hold; `build_optimizer(model)` makes what updates it.
        """
        self._objective, self._state, self._work = parallel.prepare_training(
            self.accelerator, self.config, objective, model, build_optimizer, self.progress.say
        )
        self._resume()
        self.finished = self.clock.spent(self.step, self.clock.before) >= 1.0
        if self.main:
            lasting = replace(self.config, resume=False, checkpoint="last", profile=None)
            write_config(self.folder, to_dict(lasting), self.config.task)
            self._metrics = MetricsFile(self.folder / "metrics.jsonl", after=self.step)
        if self.config.tracker != "none":
            self.accelerator.init_trackers("tensorboard")
        return self._objective

    def log_summary(self, data: str) -> None:
        """Prints what is trained, on what data, and where."""
        precision = self.accelerator.mixed_precision.replace("no", "fp32")
        place = f"on {self.device.type} in {precision}; the run is in {self.folder}"
        self.progress.say(f"{data}\n{self.state.size()} {place}")

    def steps(self, order: Order) -> Iterator[tuple[int, list[Batch]]]:
        """Yields (number of the step, from 1; its micro-batches on the device) until the budget is spent.

        Saves when due, and after SIGINT or SIGTERM, then raising Interrupted. `order` is asked for step - 1.
        """
        if self.finished:
            self.progress.say(f"nothing left to do: {self.folder} has spent its whole budget")
        with self._stop, self._profile:
            while not self.finished:
                before = self.step
                with self._meter.waiting():
                    made = order(before, self.share, self.spent)
                    batch = [tuple(to_device(tensor, self.device) for tensor in micro) for micro in made]
                yield before + 1, batch
                if self.step != before + 1:
                    raise RuntimeError("the loop over run.steps must call run.update() once per step")
                self._end_step()
                self._profile.step_done(self.finished)

    def backward(
        self, objective: nn.Module, batch: list[Batch], count: Callable[..., Tensor | int] = rows
    ) -> Gradients:
        """Adds the gradients of the mean loss over all that `count(*micro_batch)` counts, of all processes together.

        Losses and counts are summed over every micro-batch of every process before one is divided by the
        other, so that none weighs more for being shorter. Several objectives may add theirs before one update;
        among several processes, only the objective that `prepare` returned exchanges its gradients.
        """
        if self.share.world > 1 and objective is not self._objective:
            raise RuntimeError("with several processes, every backward pass takes the objective of run.prepare()")
        units = self.processes.total(sum(count(*micro) for micro in batch))
        if self._work and objective is self._objective:
            self._work.count(batch, units, self.share.world)
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
        with self._stop.held():
            self._update(gradients)

    def _update(self, gradients: tuple[Gradients, ...]) -> None:
        norm = self.state.clip_gradients(self.config.clip)
        losses, units = zip(*gradients, strict=True)
        self._meter.add(reduce(operator.add, losses), norm, reduce(operator.add, units))
        if self.device.type == "cpu":  # elsewhere looking would wait for the device: done when logging and saving
            self._guard(self.step + 1)
        seconds, self.stopping = self.processes.agree(self.step, self.clock.seconds, self._stop.made)
        spent = self.clock.spent(self.step + 0.5, seconds)  # mid-step: neither end of the schedule is wasted
        self.lr = set_learning_rate(self.state.optimizer, self.config.schedule.multiplier(spent))
        self.state.step_optimizer()
        self.step += 1
        self.finished = self.clock.spent(self.step, seconds) >= 1.0
        self.clock.note(self.step)
        if self.state.ema:
            self.state.ema.update(self.step)
        if self.due("log"):
            self._log_training()
        self._generators = torch_state(self.accelerator.device)

    def due(self, what: Literal["eval", "save", "log"]) -> bool:
        """Whether it is time to, after the step just done; after the last step it always is."""
        every = {"eval": self.config.eval_every, "save": self.config.save_every, "log": self.config.log_every}
        return self.finished or self.step % every[what] == 0

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside: evaluation mode, averaged weights if any, the run's precision, no gradients.

        Training's random numbers and its units per second stay untouched.
        """
        forked = [self.device] if self.device.type == "cuda" else []
        inside = self._meter.paused(), torch.random.fork_rng(forked), self.accelerator.autocast()
        with self._stop.whole(*inside, self.state.evaluating()):
            yield

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
            if self.processes.from_main(improves(self.best, value, mode)):
                self.best = {"step": self.step, "metric": best, "value": value}
                self._save_asked = True

    def save(self) -> None:
        """Writes a checkpoint of the step just done. Raises NonFinite rather than save a run that cannot go on."""
        with self._stop.held():
            self._save(random_state(self.device))

    def _save(self, generators: Generators) -> None:
        with self._meter.paused():
            self._guard(self.step)
            if not self.state.finite():
                raise self._diverged("a weight is too large or not a number", self.step)
            states = self.processes.gathered(generators.as_json())
            objects = {}
            if self._metrics is not None:  # in the main process
                self._metrics.sync()
                record = {"step": self.step, "seconds": self.clock.seconds, "best": self.best}
                record |= {"window": self._meter.state(), **self.state.record()}
                objects = {"state": record} | {f"rng-{rank}": state for rank, state in enumerate(states)}
            parallel.write_checkpoint(self.checkpoints, self.step, objects, self.state, self.processes)
            if self.main:
                self.checkpoints.point_at_best(self.best)
                self.checkpoints.prune(self.step, self.config.keep, self.best["step"] if self.best else None)
            self.accelerator.wait_for_everyone()
        self._save_asked = False

    @property
    def spent(self) -> float:
        """The fraction of the budget that is gone; may exceed 1."""
        return self.clock.spent(self.step, self.clock.seconds)

    def _resume(self) -> None:
        """Restores the checkpoint to go on from, if there is one."""
        checkpoint = resume_point(self.config)
        if checkpoint is None:
            return
        verify(checkpoint)
        state = read_json(checkpoint / "state.json")
        self.state.restore(checkpoint, state, self.config.init_from)
        self.step, self.clock.before = state["step"], state["seconds"]
        if state["best"] and state["best"]["step"] in self.checkpoints.steps():
            self.best = state["best"]
        if self.main:  # killed after a checkpoint, it may have had no time for this
            self.checkpoints.point_at_best(self.best)
        self._meter.load(state["window"])
        generators = checkpoint / f"rng-{self.share.rank}.json"
        if generators.exists():  # absent when there are more processes than before
            restore_random_state(read_json(generators), self.device)
        self.progress.say(f"resuming {self.folder} at step {self.step}")
        for note in self._notes:
            self.progress.say(f"notice: {note}")

    def _guard(self, step: int) -> None:
        """Raises NonFinite when a step up to `step` had a loss or gradient that is not finite."""
        if fault := self._meter.settle(self.processes.total, with_norms=self.state.scaler is None):
            steps_before, what = fault
            raise self._diverged(what, step - steps_before)

    def _diverged(self, what: str, step: int) -> NonFinite:
        return NonFinite(f"{what} at step {step}; {last_saved(self.checkpoints)}; a lower learning rate may help")

    def _end_step(self) -> None:
        """Saves when due or asked; leaves the loop when the user asked to stop."""
        stopping = self.stopping or (self.processes.alone and self._stop.made)  # also since the update
        if self._save_asked or self.due("save") or stopping:
            self.save()
        if stopping and not self.finished:
            raise interrupted(self.step, self.folder if self.main else None)

    def _answer(self) -> str:
        """What is said at once to a user who asks the run to stop."""
        at_work = "step" if self.state.objective.training else "evaluation"
        again = "; Ctrl-C again stops at once, and saves the last finished step" if self.processes.alone else ""
        return f"stopping once this {at_work} is finished and saved{again}" if self.main else ""

    def _rescue(self) -> None:
        """Saves the last finished step, if it is not saved yet; what was begun after it is lost."""
        if self.processes.alone and self._generators and self.step not in self.checkpoints.steps():
            with uninterrupted():
                self._save(random_state(self.device)._replace(torch=self._generators))

    def _log_training(self) -> None:
        self._guard(self.step)
        figures = {"train/lr": self.lr} | self._meter.close() | memory_used(self.device)
        figures |= self._work.figures(figures[self._meter.rate]) if self._work else {}
        self._write(figures)
        self.progress.update(self.step, self.spent, figures, self.clock.left(self.step))

    def _write(self, values: Mapping[str, Any]) -> None:
        if self._metrics is not None:
            self._metrics.write(self.step, self.clock.seconds, values)
        if self.config.tracker != "none":
            self.accelerator.log(dict(values), step=self.step)
