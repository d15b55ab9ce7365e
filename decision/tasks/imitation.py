"""Predicting the actions of trajectories, given the return to reach or not."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from core.messages import number
from core.training.order import Batch, Share
from core.training.run import Run
from decision.acting.episodes import Rollouts, roll_out
from decision.config import TrainConfig
from decision.data.store import Trajectories
from decision.data.summary import Summary, normalised
from decision.data.windows import Window, WindowOrder
from decision.environments.observations import Environment
from decision.models.decision_transformer import DecisionTransformer

EVALUATED = 1 << 20
"""Seed of the episodes by which the best checkpoint is chosen; the commands use smaller ones."""


def count_steps(*window: Tensor) -> Tensor:
    """Steps of a `Window`, whose tensors are the arguments, without padding: ()."""
    return Window(*window).lengths.sum()


class Imitation:
    """Windows of trajectories, the head's loss of each action, the returns reached in the environment."""

    unit = "timesteps"
    best = "val/return"
    mode: Literal["min", "max"] = "max"
    count = staticmethod(count_steps)

    def __init__(
        self,
        data: Trajectories,
        summary: Summary,
        config: TrainConfig,
        environments: Sequence[Environment],
        device: torch.device,
    ):
        self.config, self.data_summary, self.environments = config, summary, environments
        context, rows = config.model.context, config.batch_size
        self.windows = WindowOrder(data, summary.normaliser, context, rows, config.seed, device)

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

    def evaluate(self, run: Run) -> dict[str, float]:
        """Acts, always in float32 and in the same episodes, of which each process plays its share."""
        model = run.state.model
        assert isinstance(model, DecisionTransformer)
        if not self.config.eval_episodes:
            return {}
        with torch.autocast(run.device.type, enabled=False):
            rollouts = roll_out(
                model,
                self.data_summary.normaliser,
                self.environments,
                eval_targets(self.config, self.data_summary),
                self.config.eval_episodes,
                seed=EVALUATED,
                share=(run.share.rank, run.share.world),
                reduce=run.total,
            )
        figures = mean_figures(rollouts, self.data_summary.reference)
        return {f"val/{name}": value for name, value in figures.items()}


class DecisionLoss(nn.Module):
    """The training objective as a module, so that it is compiled and distributed as one."""

    def __init__(self, model: DecisionTransformer):
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> Tensor:
        """The head's loss, summed over the valid steps of a `Window`, whose tensors are the arguments: () float32."""
        window = Window(*tensors)
        losses = self.model.head.loss(self.model(window), window.actions)  # (B, K)
        return losses.masked_fill(~window.valid(), 0.0).sum()


def eval_targets(config: TrainConfig, summary: Summary) -> tuple[float, ...]:
    """Returns to ask for in an evaluation, each once; none for a model without return tokens."""
    if config.model.returns == "none":
        return ()
    targets = config.eval_targets or summary.targets().values()
    return tuple(dict.fromkeys(targets))


def mean_figures(rollouts: Rollouts, reference: tuple[float, float] | None) -> dict[str, float]:
    """What is logged of an evaluation: means over the episodes.

    return, length: of the target with the highest mean return; score: that return normalised, where there is a
    reference; return_R for every target R; rank_correlation of targets and returns, where there are several targets.
    """
    best = rollouts.best().episodes
    figures = {"return": best.returns.mean(), "length": best.lengths.mean()}
    if reference is not None:
        figures["score"] = normalised(best.returns, reference).mean()
    for result in rollouts.results:
        if result.target is not None:
            figures[f"return_{result.target:g}"] = result.episodes.returns.mean()
    correlation = rollouts.rank_correlation()
    if correlation is not None:
        figures["rank_correlation"] = correlation
    return {name: float(value) for name, value in figures.items()}
