"""Initial weights: the table in `core.init`, row by row, and what it is for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from core.attention import Attention, CrossAttention
from core.config import PositionConfig, TransformerConfig
from core.graph import causal
from core.init import initialise
from core.positions import index
from core.transformer import Transformer
from tests.core.helpers import shape, tokens

DEPTH = 3


def wide(init: str, **changes) -> TransformerConfig:
    return TransformerConfig(**{"dim": 128, "n_heads": 4, "depth": DEPTH, "init": init} | changes)


def linear_std(init: str, name: str, inputs: int) -> float:
    """The table's first two rows."""
    last = name.endswith("out.weight")
    if init == "gpt2":
        return 0.02 / math.sqrt(2 * DEPTH) if last else 0.02
    return 0.0 if last else 1 / math.sqrt(inputs)


@pytest.mark.parametrize("feedforward", ["gelu", "swiglu"])
@pytest.mark.parametrize("init", ["gpt2", "zero-residual"])
def test_every_parameter_has_its_row_of_the_table(init, feedforward):
    config = wide(init, feedforward=feedforward, position=PositionConfig("learned"))
    model = Transformer(config, (300,), role="cross")
    for name, p in model.named_parameters():
        if p.dim() == 1:
            assert torch.equal(p, torch.full_like(p, float("norm.weight" in name))), name
        else:
            expected = 0.02 if "position" in name else linear_std(init, name, p.shape[1])
            spread = 5 / math.sqrt(2 * p.numel())  # five standard errors of a standard deviation
            assert p.std().item() == pytest.approx(expected, rel=spread), name
            assert abs(p.mean().item()) <= 5 * expected / math.sqrt(p.numel()), name


@pytest.mark.parametrize("init", ["gpt2", "zero-residual"])
def test_modulated_branches_start_closed_and_can_open(init):
    """A gate and a last map that are both zero would never get a gradient, either of them."""
    model, x = Transformer(wide(init, modulation="adaln"), (8,)), torch.randn(2, 8, 128)
    y = model(x, index(8), causal(), condition=torch.randn(2, 128))
    assert torch.equal(y, model.norm(x))
    y.square().mul(torch.randn_like(y)).sum().backward()
    for block in model.blocks:
        for part in (block.attention, block.feedforward):
            shift, scale, gate = part.modulation.bias.grad.chunk(3)
            assert gate.any()
            assert not shift.any()
            assert not scale.any()


@pytest.mark.parametrize("scale", ["head_dim", "none"])
def test_scores_start_at_unit_scale_whether_they_are_divided_or_not(scale):
    model = Transformer(wide("zero-residual", attention_scale=scale), (8,), role="cross")
    x = torch.randn(50, 8, 128)
    for layer in (m for m in model.modules() if isinstance(m, Attention)):
        cross = isinstance(layer, CrossAttention)
        q, k = (layer.q(x), layer.kv(x)[..., :128]) if cross else layer.qkv(x)[..., :256].chunk(2, dim=-1)
        q, k = (part.unflatten(-1, (4, 32)).transpose(1, 2) for part in (q, k))  # (B, H, T, Dh)
        scores = q @ k.transpose(-1, -2) * (1.0 if scale == "none" else 32**-0.5)
        assert 0.8 < scores.std().item() < 1.25  # 0.92-1.07 over 20 seeds


@pytest.mark.parametrize("kind", ["rmsnorm", "layernorm"])
def test_gains_of_queries_and_keys_start_at_one(kind):
    model = Transformer(wide("gpt2", qk_norm=kind), (8,))
    layers = [m for m in model.modules() if isinstance(m, Attention | CrossAttention)]
    assert all(torch.equal(n.weight, torch.ones(32)) for m in layers for n in (m.q_norm, m.k_norm))


@pytest.mark.parametrize(("init", "std"), [("gpt2", 0.02), ("zero-residual", 0.0)])
def test_a_head(init, std):
    head = nn.Linear(128, 200)
    initialise(wide(init), {head: "head"})
    assert head.weight.std().item() == pytest.approx(std, rel=0.05)
    assert not head.bias.any()


@pytest.mark.parametrize("role", ["self", "cross"])
@pytest.mark.parametrize("feedforward", ["gelu", "swiglu"])
def test_zero_residual_blocks_start_as_the_identity(feedforward, role):
    config = shape(init="zero-residual", feedforward=feedforward)
    model, x = Transformer(config, (8,), role), tokens(2, 6)
    memory = tokens(2, 3) if role == "cross" else None
    y = model(x, index(6), causal(), memory=memory)
    assert torch.equal(y, model.norm(x))
    y.square().sum().backward()
    last = model.blocks[0].attention.branch.out.weight  # and yet they learn
    assert last.grad is not None
    assert last.grad.any()


def test_the_same_seed_gives_the_same_weights():
    def build() -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        return Transformer(shape("t5"), (8,)).state_dict()

    one, other = build(), build()
    assert all(torch.equal(one[name], other[name]) for name in one)
