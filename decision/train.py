"""Train an agent from trajectories.

python -m decision.train PRESET --data FILE --out DIR [--any.config.field VALUE ...]
python -m decision.train --out DIR --resume

`--model.returns none` is behaviour cloning, with `--top-percent 10` of the best tenth (10 %BC).
"""

from __future__ import annotations

import shlex
import sys
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.cli.arguments import given_flags, main, parse
from core.messages import number
from core.optim.groups import build_optimizer
from core.training.run import Run
from decision.acting.episodes import opened
from decision.tasks.online import Experience
from decision.config import TrainConfig
from decision.data.load import Summary, default_targets
from decision.presets import PRESETS
from decision.tasks.preparation import environment_of, first_model, prepare
from decision.tasks.imitation import Imitation, targets_of
from decision.trained import require_run, save_data_record

if TYPE_CHECKING:
    from decision.acting.episodes import Environment

AT_ONCE = 64
"""Environments that are acted in at the same time, at most."""


def train(config: TrainConfig) -> dict[str, float]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    data, summary, config = prepare(config)
    figures: dict[str, float] = {}
    with stage(config, summary) as environments, Run(config, unit=Imitation.unit) as run:
        model = first_model(config)
        if run.main:
            save_data_record(summary, run.folder)
        task = Imitation(data, summary, config, environments, run.device)
        objective = run.prepare(task.objective(model), model, partial(build_optimizer, config=config.optimizer))
        run.log_summary(task.summary())
        warn_of_targets(run, summary, config)
        experience = Experience(run, task)
        experience.act_when_due()
        for _, batch in run.steps(task.order):
            run.update(run.backward(objective, batch, count=task.count))
            if run.due("eval"):
                with run.evaluating():
                    figures = task.evaluate(run)
                run.log(figures | experience.figures(), best=task.best, mode=task.mode)
            experience.act_when_due()
        conclude(run, figures)
    return figures


def stage(config: TrainConfig, summary: Summary) -> AbstractContextManager[list[Environment]]:
    """The environments to act in, as many as are of use at once; no episode outlasts the table of timesteps."""
    wanted = config.eval_episodes * max(1, len(targets_of(config, summary)))
    if config.online.every:
        wanted = max(wanted, config.online.episodes)
    return opened(environment_of(config, summary), min(wanted, AT_ONCE), longest=config.model.longest)


def warn_of_targets(run: Run, summary: Summary, config: TrainConfig) -> None:
    """Says so when no return that evaluations ask for is near those of the data, as with a preset of another task."""
    least, best = summary.returns[0], summary.returns[-1]
    most = default_targets(np.array(summary.returns))["max + 20 %"]
    asked = targets_of(config, summary) if config.eval_episodes else ()
    if asked and not any(least <= target <= most for target in asked):
        told = f"notice: evaluations ask for {', '.join(map(number, asked))}, the data returns "
        run.progress.say(f"{told}{number(least)} to {number(best)}: name others with --eval-targets")


def conclude(run: Run, figures: dict[str, float]) -> None:
    """The last and the best evaluation, each under its name, and what to do next."""
    found = "done"
    if run.best:
        found += f": the best evaluation returned {number(run.best['value'])} at step {run.best['step']}"
    if figures:
        found += f", the last {number(figures['val/return'])}"
    run.progress.say(f"{found}; judge it with: python -m decision.evaluate {shlex.quote(str(run.folder))}")


def parse_command(argv: list[str]) -> TrainConfig:
    """The command line as a run. Raises ValueError of one sentence for anything wrong."""
    given = given_flags(argv)
    if {"resume", "out"} <= given.keys():
        require_run(Path(given["out"]))
    return parse(TrainConfig, PRESETS, argv, description="Trains an agent from trajectories.")


if __name__ == "__main__":
    main(lambda: train(parse_command(sys.argv[1:])))
