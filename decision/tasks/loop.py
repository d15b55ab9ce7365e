"""The training loop, for `decision.train` and `decision.finetune`."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from core.messages import number
from core.optim.groups import build_optimizer
from core.training.run import Run
from core.training.trained import save_data_record
from decision.config import TrainConfig
from decision.data.summary import Summary
from decision.environments.make import open_environments
from decision.tasks.imitation import Imitation, eval_targets
from decision.tasks.online import OnlineRounds
from decision.tasks.preparation import choose_environment, first_model, prepare
from decision.trained import save_summary

if TYPE_CHECKING:
    from decision.environments.make import Environment

MOST_ENVS = 64
"""The most environments to act in at once."""


def train(config: TrainConfig) -> dict[str, float]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    data, summary, config = prepare(config)
    figures: dict[str, float] = {}
    with evaluation_environments(config, summary) as environments, Run(config, unit=Imitation.unit) as run:
        model = first_model(config)
        if run.main:
            save_summary(summary, run.folder)
            save_data_record(run.folder, config.data, data.fingerprint(), episodes=len(data), steps=data.steps)
        task = Imitation(data, summary, config, environments, run.device)
        objective = run.prepare(task.objective(model), model, partial(build_optimizer, config=config.optimizer))
        run.log_summary(task.summary())
        warn_of_targets(run, summary, config)
        online = OnlineRounds(run, task)
        online.act_when_due()
        for _, batch in run.steps(task.order):
            run.update(run.backward(objective, batch, count=task.count))
            if run.due("eval"):
                with run.evaluating():
                    figures = task.evaluate(run)
                run.log(figures | online.figures(), best=task.best, mode=task.mode)
            online.act_when_due()
        say_results(run, figures)
    return figures


def evaluation_environments(config: TrainConfig, summary: Summary) -> AbstractContextManager[list[Environment]]:
    """The environments to act in, as many as can be used at once; no episode exceeds the table of timesteps."""
    episodes = config.eval_episodes * max(1, len(eval_targets(config, summary)))
    if config.online.every:
        episodes = max(episodes, config.online.episodes)
    return open_environments(
        choose_environment(config, summary), min(episodes, MOST_ENVS), longest=config.model.longest
    )


def warn_of_targets(run: Run, summary: Summary, config: TrainConfig) -> None:
    """Says so when no target of the evaluations is near the returns of the data, as with a preset for another task."""
    least, best, most = summary.returns[0], summary.returns[-1], summary.targets()["max + 20 %"]
    targets = eval_targets(config, summary) if config.eval_episodes else ()
    if targets and not any(least <= target <= most for target in targets):
        returns = f"the data returns {number(least)} to {number(best)}"
        asked = ", ".join(map(number, targets))
        run.progress.say(f"notice: evaluations ask for {asked}, {returns}: name others with --eval-targets")


def say_results(run: Run, figures: dict[str, float]) -> None:
    """Says what the best and the last evaluation returned, and what to do next."""
    results = "done"
    if run.best:
        results += f": the best evaluation returned {number(run.best['value'])} at step {run.best['step']}"
    if figures:
        results += f", the last {number(figures['val/return'])}"
    run.progress.say(f"{results}; judge it with: python -m decision.evaluate {shlex.quote(str(run.folder))}")
