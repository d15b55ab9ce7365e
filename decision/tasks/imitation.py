"""Predicting the actions of trajectories, told the return to reach or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from core.messages import number
from core.training.order import Batch, Share
from core.training.run import Run
from decision.acting.episodes import Rollouts, rollouts
from decision.config import TrainConfig
from decision.data.load import Summary, Trajectories, Windows, default_targets, normalised
from decision.models.decision_transformer import DecisionTransformer, real
from decision.models.tokens import Window

if TYPE_CHECKING:
    from decision.acting.episodes import Environment

EVALUATED = 1 << 20
"""Seed of the episodes by which the best checkpoint is chosen; the commands begin theirs from others."""


class Imitation:
    """Windows of trajectories, the head's loss of each action, the returns reached in the environment."""

    unit = "timesteps"
    best = "val/return"
    mode: Literal["min", "max"] = "max"

    def __init__(
        self,
        data: Trajectories,
        summary: Summary,
        config: TrainConfig,
        environments: Sequence[Environment],
        device: torch.device,
    ):
        self.config, self.data_summary, self.environments = config, summary, environments
        self.windows = Windows(data, summary.normaliser, config.model.context, config.batch_size, config.seed, device)

    def summary(self) -> str:
        """One line about the trajectories."""
        data, returns = self.windows.data, self.windows.data.returns()
        return (
            f"{self.config.data}: {len(data):,} episodes of {data.steps:,} steps to train on, "
            f"returns {number(returns.min())} to {number(returns.max())}, {number(returns.mean())} on average"
        )

    def objective(self, model: DecisionTransformer) -> nn.Module:
        """The model with its loss."""
        return DecisionLoss(model)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step: the tensors of a `Window`, of (b, context) steps."""
        return [*self.windows.batch(step, *share)]

    def count(self, *window: Tensor) -> Tensor:
        """How many steps of a micro-batch are not padding."""
        return real_steps(*window)

    def evaluate(self, run: Run) -> dict[str, float]:
        """Acts, always in float32 and in the same episodes, which the processes share."""
        model = run.state.model
        assert isinstance(model, DecisionTransformer)
        if not self.config.eval_episodes:
            return {}
        with torch.autocast(run.device.type, enabled=False):
            found = rollouts(
                model,
                self.data_summary.normaliser,
                self.environments,
                targets_of(self.config, self.data_summary),
                self.config.eval_episodes,
                seed=EVALUATED,
                share=(run.share.rank, run.share.world),
                reduce=run.total,
            )
        figures = mean_figures(found, self.data_summary.reference)
        return {f"val/{name}": value for name, value in figures.items()}


class DecisionLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one."""

    def __init__(self, model: DecisionTransformer):
        super().__init__()
        self.model = model

    def forward(self, *window: Tensor) -> Tensor:
        """The head's loss summed over the real steps of a `Window`, its tensors one by one -> () float32."""
        given = Window(*window)
        losses = self.model.head.loss(self.model(given), given.actions)  # (B, K)
        return losses.masked_fill(~real(given), 0.0).sum()


def real_steps(*window: Tensor) -> Tensor:
    """How many steps of a `Window`, its tensors one by one, are not padding: ()."""
    return real(Window(*window)).sum()


def targets_of(config: TrainConfig, summary: Summary) -> tuple[float, ...]:
    """Returns to ask for in an evaluation, each once; none of a model that is told none."""
    if config.model.returns == "none":
        return ()
    asked = config.eval_targets or default_targets(np.array(summary.returns)).values()
    return tuple(dict.fromkeys(asked))


def mean_figures(found: Rollouts, reference: tuple[float, float] | None) -> dict[str, float]:
    """What is logged of an evaluation: means over the episodes.

    return, length: of the target that leads furthest; score: that return normalised, where there is a reference;
    return_R for every target R; rank_correlation of asked and reached, where there are several targets.
    """
    best = max(found.outcomes, key=lambda outcome: outcome.episodes.returns.mean()).episodes
    told = {"return": best.returns.mean(), "length": best.lengths.mean()}
    if reference is not None:
        told["score"] = normalised(best.returns, reference).mean()
    for outcome in found.outcomes:
        if outcome.target is not None:
            told[f"return_{outcome.target:g}"] = outcome.episodes.returns.mean()
    correlation = found.rank_correlation()
    if correlation is not None:
        told["rank_correlation"] = correlation
    return {name: float(value) for name, value in told.items()}
