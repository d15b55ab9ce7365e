"""How well a run uses its device: useful FLOPs against the device's peak (MFU), memory, and a trace of some steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.files.atomic import atomic_write
from core.flops import device_peak, flop_counter
from core.memory import peak_memory
from core.messages import first_line, notice
from core.switch import without_kernels
from core.training.order import Batch

GIB = 2**30
PROFILE = "profile.json"
"""The file of a run folder with a trace, for chrome://tracing and Perfetto."""


class Work:
    """The useful FLOPs of a training step for each unit of work, counted once, and the share of a peak that they are.

    objective: as it is before anything is computed again, compiled or cut into shards; only its shapes are kept
    peak:      FLOP/s of all devices together
    """

    def __init__(self, objective: nn.Module, peak: float):
        from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

        self._mode, self._peak = FakeTensorMode(allow_non_fake_inputs=True), peak
        with FakeCopyMode(self._mode):
            self._objective: nn.Module | None = copy.deepcopy(objective)
        self._per_unit: float | None = None

    def count(self, batch: Sequence[Batch], units: Tensor | int, processes: int) -> None:
        """Counts a step of `processes` of such batches that has so many units; later steps are taken to be alike."""
        if self._objective is None:
            return
        objective, self._objective = self._objective, None
        try:
            self._per_unit = self._flops(objective, batch[0]) * len(batch) * processes / max(1.0, float(units))
        except Exception as error:  # what an operation raises that needs more than shapes
            notice(f"no train/mfu: the FLOPs of a step cannot be counted: {first_line(error)}")

    def _flops(self, objective: nn.Module, batch: Batch) -> int:
        """Those forwards and backwards, at most three times those forwards: no operation is counted as repeated."""
        with without_kernels(), self._mode, flop_counter() as counter:
            loss = objective(*(torch.empty(tensor.shape, dtype=tensor.dtype) for tensor in batch))
            forward = counter.get_total_flops()
            loss.backward()
        return min(counter.get_total_flops(), 3 * forward)

    def figures(self, rate: float) -> dict[str, float]:
        """`train/mfu` at so many units per second, once they are counted."""
        return {} if self._per_unit is None else {"train/mfu": rate * self._per_unit / self._peak}


def known_peak(device: torch.device, tflops: float | None) -> float | None:
    """The dense bfloat16 FLOP/s of a device: as they are given, or those of a known GPU; else None."""
    if tflops is not None:
        return 1e12 * tflops
    return device_peak(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def memory_used(device: torch.device) -> dict[str, float]:
    """`train/memory_gib`, the most that was allocated so far: on a CUDA device, elsewhere by this process."""
    most = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
    return {"train/memory_gib": most / GIB} if most else {}


class Profile:
    """Traces so many steps after the first of a life, which compiles and allocates, and writes them into a file.

    Of an interrupted run nothing is written; of one that ends sooner, the steps that there were.
    """

    def __init__(self, file: Path, steps: int | None, say: Callable[[str], None]):
        self._file, self._steps, self._say, self._seen = file, steps or 0, say, 0
        self._profiler: Any = None

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._profiler:
            self._profiler.stop()

    def step_done(self, finished: bool) -> None:
        """To be called after every step, and told whether it was the last."""
        self._seen += 1
        if self._profiler and (finished or self._seen > self._steps):
            self._write()
        elif self._seen == 1 and self._steps and finished:
            self._say("nothing was profiled: the first step is left out, and there was no other")
        elif self._seen == 1 and self._steps:
            self._profiler = torch.profiler.profile()
            self._profiler.start()

    def _write(self) -> None:
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        with atomic_write(self._file) as aside:
            profiler.export_chrome_trace(str(aside))
        self._say(f"{self._seen - 1} steps are profiled in {self._file}, for Perfetto or chrome://tracing")
