"""What the processes of a run tell each other; with a single process, nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

GPU_INTERVAL = 10  # steps between agreements on a GPU, each of which waits for the device

T = TypeVar("T")


class Processes:
    """All processes of a run; every method is to be called by all of them together."""

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self.alone = accelerator.num_processes == 1
        self._interval = 1 if accelerator.device.type == "cpu" else GPU_INTERVAL
        self._agreed: tuple[int, float] | None = None  # (step, seconds)
        self._pace = 0.0  # seconds per step

    def total(self, value: Any) -> Any:
        """The sum of a tensor or number over all processes."""
        if self.alone:
            return value
        return self._accelerator.reduce(torch.as_tensor(value, device=self._accelerator.device), reduction="sum")

    def from_main(self, value: T) -> T:
        """The main process's value."""
        if self.alone:
            return value
        from accelerate.utils import broadcast_object_list

        received: T = broadcast_object_list([value])[0]
        return received

    def from_all(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.alone:
            return [value]
        from accelerate.utils import gather_object

        return list(gather_object([value]))

    def wait(self) -> None:
        """Returns when all processes have called it."""
        self._accelerator.wait_for_everyone()

    def agree(self, step: int, seconds: float, stop: bool) -> tuple[float, bool]:
        """One clock and one wish to stop for all at every `step`, so that they leave the loop together.

        The largest seconds, and whether any wants to stop; exchanged every few steps, in between the agreed
        seconds grow at the agreed pace.
        """
        if self.alone:
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
