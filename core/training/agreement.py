"""All processes see the same clock and the same wish to stop, so that they leave the loop together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

GPU_INTERVAL = 10  # steps between exchanges on a GPU, each of which waits for the device


class Agreement:
    """Exchanges (seconds, stop) every few steps; in between, the agreed seconds grow at the agreed pace."""

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self._interval = 1 if accelerator.device.type == "cpu" else GPU_INTERVAL
        self._agreed: tuple[int, float] | None = None  # (step, seconds)
        self._pace = 0.0  # seconds per step

    def __call__(self, step: int, seconds: float, stop: bool) -> tuple[float, bool]:
        """What all processes take for (seconds, stop) at `step`; must be called by all, at every step."""
        if self._accelerator.num_processes == 1:
            return seconds, stop
        if self._agreed is not None and step % self._interval:
            since, before = self._agreed
            return before + self._pace * (step - since), False
        largest = torch.tensor([seconds, float(stop)], dtype=torch.float64, device=self._accelerator.device)
        torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
        agreed_seconds, agreed_stop = largest.tolist()
        if self._agreed is not None:
            since, before = self._agreed
            self._pace = (agreed_seconds - before) / (step - since)
        self._agreed = step, agreed_seconds
        return agreed_seconds, bool(agreed_stop)
