"""How long `text.train` takes on a GPU until it reaches a loss."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure.record import ROOT
from benchmarks.measure.timing import time_to_loss
from core.training.metrics import read_metrics


def measure_loss(
    seed: int, preset: str, data: str, target: float, device: str, options: Sequence[str], limit: float
) -> dict[str, float]:
    """`text.train` as its user starts it; stopped after `limit` seconds.

    `process_seconds_to_target` runs from the start of its process until the evaluation that passes `target` is
    written down. Raises RuntimeError with the end of what it printed when it fails.
    """
    with TemporaryDirectory() as parent:
        out, log = Path(parent) / "run", Path(parent) / "log"
        command = ["text.train", preset, "--data", data, "--out", str(out), "--device", device, "--seed", str(seed)]
        with log.open("w") as file:
            process = subprocess.Popen([sys.executable, "-m", *command, *options], cwd=ROOT, stdout=file, stderr=file)
            try:
                followed = follow(process, out, target, limit)
            finally:
                process.kill()
                process.wait()
        if (followed["ended_by_itself"] and process.returncode) or not (out / "metrics.jsonl").exists():
            raise RuntimeError(f"text.train ended with {process.returncode}: {log.read_text()[-1000:].strip()}")
        records = read_metrics(out)
    losses = [record["val/loss"] for record in records if "val/loss" in record]
    reached = {"best_loss": min(losses), "last_loss": losses[-1]} if losses else {}
    return {**followed, **time_to_loss(records, target), **reached, "steps": records[-1]["step"] if records else 0}


def follow(process: subprocess.Popen[bytes], out: Path, target: float, limit: float) -> dict[str, float]:
    """Waits until a run ends or `limit` seconds are over: when it passed the target, and how long it took."""
    started, passed = time.perf_counter(), dict[str, float]()
    while True:
        ended = process.poll() is not None
        elapsed = time.perf_counter() - started
        if not passed and (out / "metrics.jsonl").exists() and time_to_loss(read_metrics(out), target):
            passed = {"process_seconds_to_target": elapsed}
        if ended or elapsed > limit:
            return {**passed, "train_process_seconds": elapsed, "ended_by_itself": float(ended)}
        time.sleep(0.05)
