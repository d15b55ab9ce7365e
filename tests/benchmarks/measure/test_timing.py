"""Rates and times are those of what was measured, and a device's peak is found by its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.measure.record import update
from benchmarks.measure.timing import time_to_loss, time_tokens
from core.flops import device_peak


def test_time_to_a_loss_is_the_first_evaluation_at_or_below_it() -> None:
    records = [
        {"step": 10, "seconds": 1.0, "train/loss": 0.1},
        {"step": 20, "seconds": 2.0, "val/loss": 1.6},
        {"step": 30, "seconds": 3.0, "val/loss": 1.5},
        {"step": 40, "seconds": 4.0, "val/loss": 1.4},
    ]
    assert time_to_loss(records, 1.5) == {"seconds_to_target": 3.0, "steps_to_target": 30}
    assert time_to_loss(records, 1.3) == {}


def test_tokens_per_second_counts_the_measured_call_alone() -> None:
    calls: list[int] = []
    found = time_tokens(calls.append, 40)
    assert calls == [8, 40]
    assert found["tokens"] == 40
    assert found["tokens_per_second"] > 0


def test_a_part_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    update("parts", {"a": {"x": 1}, "b": {"x": 2}}, tmp_path)
    path = update("parts", {"b": {"y": 3}}, tmp_path)
    assert json.loads(path.read_text()) == {"a": {"x": 1}, "b": {"y": 3}}


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A1000", None),
        ("", None),
    ],
)
def test_the_peak_is_that_of_the_device_named(name: str, peak: float | None) -> None:
    assert device_peak(name) == peak
