"""An exponential moving average of the weights: moved after every step, lent to the model to evaluate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """average <- average + (1 - d) (weights - average), d = min(decay, (1 + step) / (10 + step)).

    The bound on d lets the average follow the first steps closely (as TensorFlow's
    `ExponentialMovingAverage` does). Buffers are not averaged.
    """

    def __init__(self, model: nn.Module, decay: float):
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in trained]
        self.weights: list[Tensor] = [p.detach() for _, p in trained]  # share the parameters' memory
        self.averages = [w.clone() for w in self.weights]
        self.decay = decay

    def update(self, step: int) -> None:
        """Moves the average towards the weights after optimiser step number `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, self.weights, 1.0 - decay)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Inside, the model holds the averages; afterwards its own weights again, bit for bit."""
        own = [w.clone() for w in self.weights]
        torch._foreach_copy_(self.weights, self.averages)
        try:
            yield
        finally:
            torch._foreach_copy_(self.weights, own)

    def state(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(zip(self.names, self.averages, strict=True))

    def load(self, averages: Mapping[str, Tensor]) -> None:
        """Takes over averages written by `state`; ValueError naming a missing one."""
        for name, average in zip(self.names, self.averages, strict=True):
            if name not in averages:
                raise ValueError(f"the checkpoint has no average of {name!r}")
            average.copy_(averages[name])
