"""What a run shows of its use of a device: MFU, memory, waiting for data, and a trace."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from core.cli.exits import Interrupted
from core.flops import DEVICES
from core.training.metrics import read_metrics
from core.training.throughput import PROFILE, Work, known_peak
from tests.core.training.test_run import stop_after
from tests.core.training.toy import LENGTH, PRESETS, VOCABULARY, Sequences, SummedLoss, Toy, ToyConfig, train

WIDTH = 16


def toy(out: Path, **settings: Any) -> ToyConfig:
    return dataclasses.replace(PRESETS["toy"], out=out, log_every=1, **settings)


def by_hand(rows: int) -> int:
    """Three times the products of a forward pass: the linear maps of two blocks, and the head."""
    return 3 * 2 * rows * LENGTH * (2 * (3 * WIDTH * WIDTH + 8 * WIDTH * WIDTH) + VOCABULARY * WIDTH)


@pytest.mark.parametrize("settings", [{}, {"accumulate": 4, "remat": "blocks"}])
def test_mfu_is_the_work_by_hand_over_the_peak(tmp_path: Path, settings: dict[str, Any]) -> None:
    """However the batch is cut, and whatever is computed again."""
    train(toy(tmp_path / "run", steps=4, peak_tflops=0.5, **settings))
    config = toy(tmp_path, steps=4)
    units = sum((targets >= 0).sum() for _, targets, _ in Sequences(config).order(0, (0, 1, 1), 0))  # type: ignore[arg-type]
    for line in read_metrics(tmp_path / "run"):
        if "train/mfu" in line:
            flops = line["train/tokens_per_second"] * by_hand(8) / int(units)
            assert line["train/mfu"] == pytest.approx(flops / 0.5e12)
            assert line["train/memory_gib"] > 0.1
            assert 0 <= line["train/data_wait"] <= 1
    assert sum("train/mfu" in line for line in read_metrics(tmp_path / "run")) == 4


def test_what_is_frozen_is_not_counted_as_trained() -> None:
    model = Toy(PRESETS["toy"])
    model.blocks.requires_grad_(False)
    batch = Sequences(PRESETS["toy"]).order(0, (0, 1, 1), 0)  # type: ignore[arg-type]
    work = Work(SummedLoss(model), peak=1.0)
    work.count(batch, units=1, processes=1)
    assert by_hand(8) / 2 < work.figures(1.0)["train/mfu"] < by_hand(8)


def test_no_peak_no_mfu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(toy(tmp_path / "run", steps=2))
    assert not any("train/mfu" in line for line in read_metrics(tmp_path / "run"))
    assert known_peak(torch.device("cpu"), None) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    assert known_peak(torch.device("cuda"), None) == DEVICES["H100"].peak
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Radeon")
    assert known_peak(torch.device("cuda"), None) is None


def test_an_objective_that_needs_more_than_shapes_has_no_mfu(capsys: pytest.CaptureFixture[str]) -> None:
    class Choosing(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x[x.sum(1) > 0]).sum()

    work = Work(Choosing(3, 3), peak=1.0)
    work.count([(torch.ones(4, 3),)], units=4, processes=1)
    assert work.figures(1.0) == {}
    assert "no train/mfu: the FLOPs of a step cannot be counted" in capsys.readouterr().err


def test_slow_data_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = Sequences.order

    def slow(*given: Any) -> Any:
        time.sleep(0.05)
        return order(*given)

    train(toy(tmp_path / "quick", steps=4))
    monkeypatch.setattr(Sequences, "order", slow)
    train(toy(tmp_path / "slow", steps=4))
    waits = [
        [line["train/data_wait"] for line in read_metrics(tmp_path / name) if "train/data_wait" in line]
        for name in ("quick", "slow")
    ]
    assert median(waits[1]) > median(waits[0])  # single steps may wait for other programs


def test_a_profile_is_a_trace_of_so_many_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With as many optimiser steps as were asked for; the run that is resumed profiles nothing by itself."""
    train(toy(tmp_path / "run", steps=6, profile=2))
    trace = json.loads((tmp_path / "run" / PROFILE).read_text())
    steps = [event for event in trace["traceEvents"] if event.get("name", "").startswith("Optimizer.step#")]
    assert len(steps) == 2
    assert "2 steps are profiled in" in capsys.readouterr().err
    (tmp_path / "run" / PROFILE).unlink()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"].get("profile") is None


def test_a_profile_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an interrupted run none, of a short one what there was; a trace is no reason to call a run another."""
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Interrupted):
            train(toy(tmp_path / "run", steps=6, profile=5))
    assert not list((tmp_path / "run").glob("*profile*"))
    train(toy(tmp_path / "run", steps=6, profile=5, resume=True))
    trace = json.loads((tmp_path / "run" / PROFILE).read_text())
    assert sum(event.get("name", "").startswith("Optimizer.step#") for event in trace["traceEvents"]) == 2
    with pytest.raises(ValueError, match="profile = 0 must be above 0"):
        toy(tmp_path, profile=0)
