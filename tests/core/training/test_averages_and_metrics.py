"""The averaged weights, and the file of metrics."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from core.optim.averages import EMA
from core.training.metrics import MetricsFile, read_metrics


def test_the_average_follows_its_formula() -> None:
    model = nn.Linear(3, 2)
    ema = EMA(model, decay=0.9)
    expected = model.weight.detach().clone()
    for step in range(1, 120):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(ema.averages["weight"], expected, atol=1e-5, rtol=1e-5)


def test_the_model_borrows_the_average_and_gets_its_weights_back() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    ema = EMA(model, decay=0.5)
    with torch.no_grad():
        model[0].weight.mul_(2)
    own = copy.deepcopy(model.state_dict())

    def evaluate() -> None:
        with ema.swapped_in():
            assert torch.equal(model[0].weight * 2, own["0.weight"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate()  # even then
    assert all(torch.equal(own[name], tensor) for name, tensor in model.state_dict().items())
    assert set(ema.averages) == {"0.weight", "0.bias", "1.weight", "1.bias"}  # no buffers


def test_an_average_survives_a_checkpoint() -> None:
    model = nn.Linear(3, 2)
    ema, other = EMA(model, 0.9), EMA(nn.Linear(3, 2), 0.9)
    other.load(ema.averages)
    assert all(torch.equal(ema.averages[name], other.averages[name]) for name in ("weight", "bias"))
    with pytest.raises(ValueError, match="no average of 'weight'"):
        other.load({})


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
