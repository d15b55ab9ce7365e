"""Normalisations against their formulas."""

from __future__ import annotations

import pytest
import torch

from core.norms import build_norm
from tests.core.helpers import awake, shape, tokens

KINDS = ["layernorm", "rmsnorm", "rms"]


@pytest.mark.parametrize("scale", [1.0, 1e-3])  # small enough for eps to count
@pytest.mark.parametrize("kind", KINDS)
def test_norm_is_its_formula(kind, scale):
    norm = awake(build_norm(kind, 32, shape(norm_eps=1e-5)))
    state = {name: value.double() for name, value in norm.state_dict().items()}
    x = scale * (tokens(2, 5).double() + 0.5)
    centred = x - x.mean(-1, keepdim=True) if kind == "layernorm" else x
    unit = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = unit * state.get("weight", 1.0) + state.get("bias", 0.0)
    torch.testing.assert_close(norm(x.float()).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_formula(kind):
    norm = awake(build_norm(kind, 6, shape(norm_eps=0.1))).double()
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))


@pytest.mark.parametrize("kind", ["rmsnorm", "rms"])
def test_the_form_for_the_compiler_is_the_same_norm(kind, monkeypatch):
    norm, x = awake(build_norm(kind, 32, shape())), tokens(2, 5)
    eager = norm(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(norm(x), eager)


@pytest.mark.parametrize("kind", KINDS)
def test_activations_keep_their_dtype_under_autocast(kind):
    """The gain is float32 there; queries and keys must not grow to it."""
    norm, x = awake(build_norm(kind, 32, shape())), tokens(2, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(x).dtype == torch.bfloat16


def test_none_is_the_identity():
    x = tokens(2, 5)
    assert build_norm("none", 32, shape())(x) is x


@pytest.mark.parametrize(
    ("kind", "bias", "learned"),
    [
        ("layernorm", "all", {"weight", "bias"}),
        ("layernorm", "none", {"weight"}),
        ("rmsnorm", "all", {"weight"}),
        ("rms", "all", set()),
    ],
)
def test_what_is_learned(kind, bias, learned):
    assert set(build_norm(kind, 32, shape(bias=bias)).state_dict()) == learned


@pytest.mark.parametrize("kind", KINDS)
def test_norm_is_computed_in_float32_at_least_where_activations_are_bfloat16(kind):
    """The squares of 256 equal numbers of 1.01 add up to 261.1; summed in bfloat16 they would stop at 256."""
    norm = build_norm(kind, 512, shape()).bfloat16()
    x = torch.full((1, 512), 1.01, dtype=torch.bfloat16)
    x[:, ::2] *= -1
    torch.testing.assert_close(norm(x).abs(), torch.ones_like(x), atol=0.005, rtol=0)


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm = 'batch' is not one of: none, layernorm"):
        build_norm("batch", 8, shape())
