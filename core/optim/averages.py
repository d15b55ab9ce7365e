"""An exponential moving average of the weights: updated after every step, swapped in for an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """average <- average + (1 - d) (weights - average), d = min(decay, (1 + step) / (10 + step)).

    The bound on d lets the average follow the first steps closely (as TensorFlow's `ExponentialMovingAverage`
    does). Buffers are not averaged.
    """

    def __init__(self, model: nn.Module, decay: float):
        # The parameters themselves: their memory may move when the model is distributed.
        self.weights: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.averages = {name: p.detach().clone() for name, p in self.weights.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the weights after optimiser step number `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.averages.values()), list(self.weights.values()), 1.0 - decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside, the model holds the averages; afterwards its own weights again, bit for bit."""
        own = [p.detach().clone() for p in self.weights.values()]
        self._assign(list(self.averages.values()))
        try:
            yield
        finally:
            self._assign(own)

    def load(self, averages: Mapping[str, Tensor]) -> None:
        """Restores the `averages` of a checkpoint; ValueError naming a missing one."""
        for name, average in self.averages.items():
            if name not in averages:
                raise ValueError(f"the checkpoint has no average of {name!r}")
            average.copy_(averages[name])

    @torch.no_grad()
    def _assign(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(list(self.weights.values()), values)
