"""metrics.jsonl: one JSON object a line, there as soon as it is known, and the same file after any resume."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.cli.errors import NotSaved
from core.files.json_files import write_text


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
        try:
            self._file.close()
        except OSError:
            return  # write() has already reported it


def read_metrics(run_folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's metrics.jsonl, in order; a last line cut by a kill is left out."""
    lines = (run_folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if _step(line) < math.inf]


def _step(line: str) -> float:
    """The step of a line; infinite for a line that is none, so that it is dropped."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf


def _json(value: Any) -> Any:
    """Numbers (also of numpy or 0-d tensors) as int or float, what is not finite as None; text as it is."""
    if isinstance(value, (str, bool, int)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
