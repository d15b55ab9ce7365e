"""Every feed-forward layer against its formula, and each token by itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from core.attention import LayerContext
from core.feedforward import build_feedforward
from tests.core.helpers import awake, shape, tokens


def phi(x: Tensor) -> Tensor:
    """The standard normal distribution function."""
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    """Hendrycks & Gimpel 2016, section 2."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


FORMULAS = {
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: x * phi(x),
    "gelu-tanh": gelu_tanh,
    "silu": lambda x: x * torch.sigmoid(x),
    "relu2": lambda x: x.clamp(min=0) ** 2,
    "swiglu": lambda x: x / (1 + torch.exp(-x)),
    "geglu": lambda x: x * phi(x),
    "geglu-tanh": gelu_tanh,
}
GATED = ("swiglu", "geglu", "geglu-tanh")


@pytest.mark.parametrize("bias", ["all", "qkv", "none"])
@pytest.mark.parametrize("kind", FORMULAS)
def test_layer_is_its_formula(kind, bias):
    layer = awake(build_feedforward(shape(feedforward=kind, bias=bias, ffn_dim=24)))
    state = {name: value.double() for name, value in layer.state_dict().items()}
    assert ("up.bias" in state) == ("out.bias" in state) == (bias == "all")
    x = tokens(2, 5).double()
    up = x @ state["up.weight"].T + state.get("up.bias", 0.0)
    if kind in GATED:
        inner = FORMULAS[kind](up[..., :24]) * up[..., 24:]  # the gate comes first
    else:
        inner = FORMULAS[kind](up)
    expected = inner @ state["out.weight"].T + state.get("out.bias", 0.0)
    torch.testing.assert_close(layer(x.float(), LayerContext()).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", FORMULAS)
def test_gradients_are_those_of_the_formula(kind):
    layer = awake(build_feedforward(shape(feedforward=kind, dim=4, n_heads=1, ffn_dim=6))).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x, LayerContext()), (x,))


@pytest.mark.parametrize("kind", FORMULAS)
def test_the_form_for_the_compiler_is_the_same_layer(kind, monkeypatch):
    layer, x = awake(build_feedforward(shape(feedforward=kind))), tokens(2, 5)
    eager = layer(x, LayerContext())
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(layer(x, LayerContext()), eager)


@pytest.mark.parametrize("kinds", [("gelu", "gelu-tanh"), ("geglu", "geglu-tanh")])
def test_the_two_gelus_differ(kinds):
    exact, tanh = (awake(build_feedforward(shape(feedforward=kind))) for kind in kinds)
    x = tokens(2, 5)
    assert 0 < (exact(x, LayerContext()) - tanh(x, LayerContext())).abs().max() < 1e-2


@pytest.mark.parametrize("kind", FORMULAS)
def test_gated_layers_have_the_parameters_of_plain_ones(kind):
    """8/3 of the width times three matrices is 4 times the width times two."""
    layer = build_feedforward(shape(dim=192, feedforward=kind, bias="none"))
    assert sum(p.numel() for p in layer.parameters()) == 8 * 192**2
