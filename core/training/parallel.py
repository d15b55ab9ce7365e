"""What the processes of a run tell each other; with a single process, nothing."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from core.devices import device_kind, keep_freed_memory, resolve_precision
from core.training.config import RunConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

GPU_INTERVAL = 10  # steps between agreements on a GPU, each of which waits for the device

T = TypeVar("T")


def build_accelerator(config: RunConfig) -> Accelerator:
    """Accelerate for one process, or for DDP under `accelerate launch`.

    Raises ValueError for a device, precision, tracker or kind of launch that is not available.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, DistributedType

    if config.tracker == "tensorboard" and importlib.util.find_spec("tensorboard") is None:
        raise ValueError("tracker = 'tensorboard' needs the package tensorboard: pip install tensorboard")
    kind = device_kind(config.device)
    precision = resolve_precision(config.precision, kind)
    if kind == "cpu":
        keep_freed_memory()
    if kind == "cuda" and config.precision != "fp32":
        torch.set_float32_matmul_precision("high")
    accelerator = Accelerator(
        cpu=kind == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
        log_with=None if config.tracker == "none" else config.tracker,
        project_dir=str(config.out),
    )
    supported = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
    if accelerator.distributed_type not in supported:
        raise ValueError(f"launched as {accelerator.distributed_type.value}; supported are one process and DDP")
    shares = accelerator.num_processes * config.accumulate
    if config.batch_size % shares:
        raise ValueError(
            f"batch_size = {config.batch_size} must be divisible by {accelerator.num_processes} processes x "
            f"accumulate = {config.accumulate}"
        )
    return accelerator


def release_accelerator(accelerator: Accelerator) -> None:
    """Ends trackers and process group, forgets Accelerate's global state, so that another run can follow."""
    from accelerate.state import AcceleratorState

    accelerator.end_training()
    AcceleratorState._reset_state(reset_partial_state=True)


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
