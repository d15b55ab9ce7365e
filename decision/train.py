"""Train an agent from trajectories.

python -m decision.train PRESET --data FILE --out DIR [--any.config.field VALUE ...]
python -m decision.train --out DIR --resume

`--model.returns none` is behaviour cloning, with `--top-percent 10` of the best tenth (10 %BC).
"""

from __future__ import annotations

import shlex
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.cli.arguments import given_flags, main, parse
from core.optim.groups import build_optimizer
from core.training.run import Run
from decision.acting.episodes import opened, rollouts
from decision.acting.experience import Experience
from decision.config import TrainConfig
from decision.data.load import Summary, Trajectories, Windows, default_targets
from decision.evaluate import summarised
from decision.models.decision_transformer import DecisionLoss, DecisionTransformer, real_steps
from decision.presets import PRESETS
from decision.rollout import number
from decision.start import environment_of, first_model, prepare
from decision.trained import require_run, save_data_record

if TYPE_CHECKING:
    from decision.acting.episodes import Environment

AT_ONCE = 64
"""Environments that are acted in at the same time, at most."""
EVALUATED = 1 << 20
"""Seed of the episodes by which the best checkpoint is chosen; the commands begin theirs from others."""


def train(config: TrainConfig) -> dict[str, float]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    data, summary, config = prepare(config)
    figures: dict[str, float] = {}
    with stage(config, summary) as environments, Run(config, unit="timesteps") as run:
        model = first_model(config)
        optimizer = build_optimizer(model, config.optimizer)
        if run.main:
            save_data_record(summary, run.folder)
        objective = run.prepare(DecisionLoss(model), model, optimizer)
        log_summary(run, model, data, config)
        warn_of_targets(run, summary, config)
        windows = Windows(data, summary.normaliser, config.model.context, config.batch_size, config.seed, run.device)
        experience = Experience(run, model, windows, environments, config.online)
        for _, batch in run.steps(experience.batch):
            run.backward(objective, batch, count=real_steps)
            run.update()
            if run.due("eval") and config.acts:
                if config.eval_episodes:
                    with run.evaluating():
                        figures = evaluate_now(run, model, summary, environments, config)
                run.log(figures | experience.figures(), best="val/return" if figures else "", mode="max")
        conclude(run, figures)
    return figures


def stage(config: TrainConfig, summary: Summary) -> AbstractContextManager[list[Environment]]:
    """The environments to act in, as many as are of use at once; no episode outlasts the table of timesteps."""
    wanted = config.eval_episodes * max(1, len(targets_of(config, summary)))
    if config.online.every:
        wanted = max(wanted, config.online.episodes)
    return opened(environment_of(config, summary), min(wanted, AT_ONCE), longest=config.model.longest)


def targets_of(config: TrainConfig, summary: Summary) -> tuple[float, ...]:
    """Returns to ask for in an evaluation, each once; none of a model that is told none."""
    if config.model.returns == "none":
        return ()
    asked = config.eval_targets or default_targets(np.array(summary.returns)).values()
    return tuple(dict.fromkeys(asked))


def log_summary(run: Run, model: DecisionTransformer, data: Trajectories, config: TrainConfig) -> None:
    """Says what is trained on what, and where."""
    precision = run.accelerator.mixed_precision.replace("no", "fp32")
    millions, returns = sum(p.numel() for p in model.parameters()) / 1e6, data.returns()
    run.progress.say(
        f"{config.data}: {len(data):,} episodes of {data.steps:,} steps to learn from, "
        f"returns {number(returns.min())} to {number(returns.max())}, {number(returns.mean())} on average\n"
        f"{millions:.2f} M parameters on {run.device.type} in {precision}; the run is in {run.folder}"
    )


def warn_of_targets(run: Run, summary: Summary, config: TrainConfig) -> None:
    """Says so when no return that evaluations ask for is near those of the data, as with a preset of another task."""
    least, best = summary.returns[0], summary.returns[-1]
    most = default_targets(np.array(summary.returns))["max + 20 %"]
    asked = targets_of(config, summary) if config.eval_episodes else ()
    if asked and not any(least <= target <= most for target in asked):
        told = f"notice: evaluations ask for {', '.join(map(number, asked))}, the data returns "
        run.progress.say(f"{told}{number(least)} to {number(best)}: name others with --eval-targets")


def evaluate_now(
    run: Run, model: DecisionTransformer, summary: Summary, environments: list[Environment], config: TrainConfig
) -> dict[str, float]:
    """Acts, always in float32 and in the same episodes, which the processes share."""
    with torch.autocast(run.device.type, enabled=False):
        found = rollouts(
            model,
            summary.normaliser,
            environments,
            targets_of(config, summary),
            config.eval_episodes,
            seed=EVALUATED,
            share=(run.rank, run.world),
            reduce=run.total,
        )
    return {f"val/{name}": value for name, value in summarised(found, summary.reference).items()}


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
