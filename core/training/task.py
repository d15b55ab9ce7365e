"""What a model is trained to do: data, objective and metric in one object, so that a new task touches no loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch import Tensor, nn

from core.training.order import Batch, Share

if TYPE_CHECKING:
    from core.training.run import Run


class Task(Protocol):
    """All that a panel's training loop asks of what is trained."""

    unit: str
    """What throughput counts: tokens, images, timesteps."""
    best: str
    """The metric by which the best checkpoint is chosen, one of those that `evaluate` returns."""
    mode: Literal["min", "max"]
    """Whether a smaller or a larger value is better."""

    def summary(self) -> str:
        """One line about the data."""

    def objective(self, model: Any) -> nn.Module:
        """The model with its loss: (*micro_batch) -> summed loss ()."""

    def order(self, step: int, share: Share, progress: float) -> Sequence[Batch]:
        """The micro-batches of a step, see `core.training.order.Order`."""

    def count(self, *batch: Tensor) -> Tensor | int:
        """How many of a micro-batch the loss is a mean over."""

    def evaluate(self, run: Run) -> dict[str, float]:
        """Metrics of the model as it is, each process computing its share; none where there is nothing to evaluate."""
