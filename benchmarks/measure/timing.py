"""How long a step takes and how much memory it needs, on the CPU or a GPU."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from core.memory import peak_memory

if TYPE_CHECKING:
    import torch

Device = Literal["cpu", "cuda"]


def time_steps(
    step: Callable[[], object],
    *,
    warmup: int = 3,
    rounds: int = 20,
    seconds: float = math.inf,
    device: Device = "cpu",
) -> dict[str, float]:
    """Time `step()`: `warmup` calls unmeasured, then `rounds` calls, or fewer once `seconds` have passed.

    Returns `steps` (how many were measured), `step_seconds` (median wall time), `step_core_seconds` (median
    CPU time over all threads of this process) and `peak_bytes` (resident). On "cuda" the wall time is the
    GPU's own, between events on its stream with the queue kept full; `step_core_seconds` is then a mean, and
    `device_peak_bytes` is the most that was allocated.
    """
    for _ in range(warmup):
        step()
    return _time_on_gpu(step, rounds, seconds) if device == "cuda" else _time_on_cpu(step, rounds, seconds)


def _time_on_cpu(step: Callable[[], object], rounds: int, seconds: float) -> dict[str, float]:
    wall: list[float] = []
    core: list[float] = []
    until = time.perf_counter() + seconds
    while len(wall) < rounds and (not wall or time.perf_counter() < until):
        wall_start, core_start = time.perf_counter(), time.process_time()
        step()
        core.append(time.process_time() - core_start)
        wall.append(time.perf_counter() - wall_start)
    return {
        "steps": len(wall),
        "step_seconds": statistics.median(wall),
        "step_core_seconds": statistics.median(core),
        "peak_bytes": peak_memory(),
    }


def _time_on_gpu(step: Callable[[], object], rounds: int, seconds: float) -> dict[str, float]:
    import torch

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    until, core_start, marks = time.perf_counter() + seconds, time.process_time(), [mark()]
    while len(marks) <= rounds and (len(marks) == 1 or time.perf_counter() < until):
        step()
        marks.append(mark())
    torch.cuda.synchronize()
    steps = len(marks) - 1
    milliseconds = [before.elapsed_time(after) for before, after in pairwise(marks)]
    return {
        "steps": steps,
        "step_seconds": statistics.median(milliseconds) / 1000,
        "step_core_seconds": (time.process_time() - core_start) / steps,
        "peak_bytes": peak_memory(),
        "device_peak_bytes": torch.cuda.max_memory_allocated(),
    }


def time_tokens(generate: Callable[[int], object], tokens: int) -> dict[str, float]:
    """Tokens per second, of wall time and of CPU time, of `generate(tokens)`, after a few unmeasured ones.

    `generate` must end with its tokens in hand, as text needs them: then a GPU has been waited for.
    """
    generate(8)
    wall, core = time.perf_counter(), time.process_time()
    generate(tokens)
    wall, core = time.perf_counter() - wall, time.process_time() - core
    return {"tokens": tokens, "tokens_per_second": tokens / wall, "tokens_per_core_second": tokens / core}


def time_to_loss(records: Iterable[Mapping[str, Any]], target: float) -> dict[str, float]:
    """When `val/loss` in a run's metrics was first at most `target`: `seconds_to_target` and `steps_to_target`.

    Empty when it never was.
    """
    for record in records:
        if record.get("val/loss", math.inf) <= target:
            return {"seconds_to_target": record["seconds"], "steps_to_target": record["step"]}
    return {}


def is_compiled(module: torch.nn.Module) -> float:
    """1.0 where calls of a module are compiled, else 0.0; torch says so nowhere else."""
    return float(module._compiled_call_impl is not None)
