"""The file of metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from core.training.metrics import MetricsFile, read_metrics


def write(path: Path, steps: range, after: int) -> None:
    metrics = MetricsFile(path, after)
    for step in steps:
        metrics.write(step, 1.0 * step, {"train/loss": 1.0 / step})
    metrics.close()


def test_a_resumed_file_equals_one_never_interrupted(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    write(whole, range(1, 11), after=0)
    write(resumed, range(1, 9), after=0)
    with resumed.open("a") as file:
        file.write('{"step": 9, "sec')  # killed while writing
    write(resumed, range(6, 11), after=5)
    assert resumed.read_text() == whole.read_text()


def test_every_line_is_json_whatever_was_measured(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl", after=0)
    values = {"a": float("nan"), "b": float("-inf"), "c": torch.tensor(2.5), "d": 3, "e": "text", "f": True}
    metrics.write(1, 0.12345, values)
    metrics.sync()  # readable while the run goes on
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    expected = {"step": 1, "seconds": 0.123, "a": None, "b": None, "c": 2.5, "d": 3, "e": "text", "f": True}
    assert json.loads(line, parse_constant=pytest.fail) == expected
    metrics.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2')
    assert read_metrics(tmp_path) == [expected]
