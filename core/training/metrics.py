"""What a run measures: gathered over some steps, and written to metrics.jsonl, the same file after any resume."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from core.cli.exits import NotSaved
from core.files.atomic import write_text


class MetricsFile:
    """Appends lines `{"step": n, "seconds": s, name: value, ...}`."""

    def __init__(self, path: Path, after: int):
        """Opens `path` for a run that goes on after step `after`: lines of later steps are dropped."""
        self.path = path
        if path.exists():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and _step(line) <= after]
            if kept != lines:
                write_text(path, "".join(kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, seconds: float, values: Mapping[str, Any]) -> None:
        """Writes one line at once; what is not a finite number becomes null. NotSaved on a full disk."""
        line = {"step": step, "seconds": round(seconds, 3)} | {name: _json(value) for name, value in values.items()}
        try:
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise NotSaved(f"{self.path} cannot be written: {error}; the checkpoints are intact") from error

    def sync(self) -> None:
        """Flushes to the disk itself, so that a checkpoint never outlives the lines before it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file; safe to call when the disk is full."""
        with suppress(OSError):  # which write() has already reported
            self._file.close()


def read_metrics(run_folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's metrics.jsonl, in order; a last line cut by a kill is left out."""
    lines = (run_folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if _step(line) < math.inf]


def _step(line: str) -> float:
    """The step of a line; infinite for a broken line, so that it is dropped."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf


def _json(value: Any) -> Any:
    """Numbers (of numpy and 0-d tensors too) as int or float, what is not finite as None; text unchanged."""
    if isinstance(value, (str, bool, int)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def improves(best: Mapping[str, Any] | None, value: float, mode: Literal["min", "max"]) -> bool:
    """Whether a value is better than the best so far, or as good, since it has trained for longer; no NaN ever is."""
    if best is None or math.isnan(value):
        return not math.isnan(value)
    return bool(value <= best["value"] if mode == "min" else value >= best["value"])


class Meter:
    """Losses, gradient norms and units of work of the last few steps.

    `add` leaves them on the device; `settle` reads all pending ones at once, which waits for the device.
    """

    def __init__(self, unit: str) -> None:
        self.rate = f"train/{unit}_per_second"
        self.losses: list[float] = []
        self.norms: list[float] = []
        self._pending: list[tuple[Tensor, Tensor, Tensor | int]] = []
        self._restart()

    def add(self, loss: Tensor, norm: Tensor, units: Tensor | int) -> None:
        """One step: this process's share of the loss, the gradient's norm, the units of all processes."""
        self._pending.append((loss, norm, units))

    def settle(self, reduce: Callable[[Tensor], Tensor], with_norms: bool) -> tuple[int, str] | None:
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

    def close(self) -> dict[str, float]:
        """Mean loss, mean norm, units per second and the share of that time in which the loop waited for data, all of
        the settled steps, which are then forgotten."""
        loss, norm = (math.fsum(x) / max(1, len(x)) for x in (self.losses, self.norms))
        seconds = max(1e-9, time.perf_counter() - self._start - self._paused)
        rate, waited = self._units / seconds, min(1.0, self._waited / seconds)
        self.losses, self.norms = [], []
        self._restart()
        return {"train/loss": loss, "train/grad_norm": norm, self.rate: rate, "train/data_wait": waited}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside (evaluating, saving) does not count in units per second."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - start

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent inside goes by without a batch to compute with."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._waited += time.perf_counter() - start

    def state(self) -> dict[str, list[float]]:
        """The settled steps, for a checkpoint between two lines of metrics."""
        return {"losses": self.losses, "norms": self.norms}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned; the clock of units per second is set to zero."""
        self.losses, self.norms = list(state["losses"]), list(state["norms"])
        self._restart()

    def _restart(self) -> None:
        self._units, self._paused, self._waited, self._start = 0.0, 0.0, 0.0, time.perf_counter()
