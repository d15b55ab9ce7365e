"""What was measured since the last line of training metrics, read from the device only when it has to be."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]


class Meter:
    """Losses, gradient norms and units of work of the last few steps.

    `add` leaves them on the device; `settle` reads all pending ones at once, which waits for the device.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []
        self._pending: list[tuple[Tensor, Tensor, Tensor | int]] = []
        self._restart()

    def add(self, loss: Tensor, norm: Tensor, units: Tensor | int) -> None:
        """One step: this process's share of the loss, the gradient's norm, the units of all processes."""
        self._pending.append((loss, norm, units))

    def settle(self, reduce: Reduce, with_norms: bool) -> tuple[int, str] | None:
        """Turns what is pending into numbers; `reduce` adds the losses up over all processes.

        Returns (how many steps before the newest, what) of the first loss, or norm, that is not finite.
        """
        if not self._pending:
            return None
        losses, norms, units = zip(*self._pending, strict=True)
        fresh = reduce(torch.stack(losses)).tolist(), torch.stack(norms).tolist()
        self._units += float(sum(units))
        self._pending.clear()
        self.losses += fresh[0]
        self.norms += fresh[1]
        for i, (loss, norm) in enumerate(zip(*fresh, strict=True)):
            for name, value in (("loss", loss), ("gradient norm", norm if with_norms else 0.0)):
                if not math.isfinite(value):
                    return len(fresh[0]) - 1 - i, f"the {name} is {value}"
        return None

    def close(self) -> tuple[float, float, float]:
        """Mean loss, mean norm and units per second of the settled steps; starts anew."""
        loss, norm = (math.fsum(x) / max(1, len(x)) for x in (self.losses, self.norms))
        rate = self._units / max(1e-9, time.perf_counter() - self._start - self._paused)
        self.losses, self.norms = [], []
        self._restart()
        return loss, norm, rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside (evaluating, saving) does not count in units per second."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - start

    def state(self) -> dict[str, list[float]]:
        """The settled steps, for a checkpoint between two lines of metrics."""
        return {"losses": self.losses, "norms": self.norms}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave; the clock of units per second starts anew."""
        self.losses, self.norms = list(state["losses"]), list(state["norms"])
        self._restart()

    def _restart(self) -> None:
        self._units, self._paused, self._start = 0.0, 0.0, time.perf_counter()
