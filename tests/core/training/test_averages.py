"""The averaged weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from core.training.state import EMA


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
