"""Stacks that public families are made of, with transformers' own weights: equal outputs, whole and step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Olmo2Config,
    Olmo2Model,
    Olmo3Config,
    Olmo3Model,
    SmolLM3Config,
    SmolLM3Model,
)

from core.config import PositionConfig, RotaryScaling, TransformerConfig
from core.files.weights import BOTH, WEIGHT, Rule, each_layer, import_weights, module, stacked
from core.graph import causal
from core.positions import UNSCALED, index
from core.transformer import Transformer
from tests.core.helpers import awake

ROPE = PositionConfig("rotary", base=500.0, pairing="halves")
LLAMA3 = {"factor": 8.0, "original_max_position_embeddings": 12, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"factor": 4.0, "original_max_position_embeddings": 12}
PLAIN = {"rope_type": "default"}
SIZES: dict[str, Any] = {
    "vocab_size": 8, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 96, "rms_norm_eps": 1e-6, "pad_token_id": None,
    "eos_token_id": None, "bos_token_id": None,
}  # fmt: skip


def ours(scaling: RotaryScaling = UNSCALED, **changes: Any) -> TransformerConfig:
    return TransformerConfig(
        **{
            "dim": 32, "depth": 4, "n_heads": 4, "n_kv_heads": 2, "ffn_dim": 48, "feedforward": "swiglu",
            "norm": "rmsnorm", "norm_eps": 1e-6, "bias": "none", "position": replace(ROPE, scaling=scaling),
        } | changes
    )  # fmt: skip


def llama(rope: dict[str, Any], **changes: Any) -> nn.Module:
    return LlamaModel(LlamaConfig(**SIZES | {"rope_parameters": {"rope_theta": 500.0} | rope} | changes))


def theirs(model: type[nn.Module], config: type, **changes: Any) -> nn.Module:
    return model(config(**SIZES | {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}} | changes))


OLMO = {"norm_placement": "branch", "qk_norm": "rmsnorm", "qk_norm_over": "all-heads"}
FAMILIES = {
    "linear": (lambda: llama({"rope_type": "linear", "factor": 3.0}), ours(RotaryScaling("linear", 3.0))),
    "dynamic": (
        lambda: llama({"rope_type": "dynamic", "factor": 2.0}, max_position_embeddings=12),
        ours(RotaryScaling("dynamic", 2.0, 12)),
    ),
    "llama3": (lambda: llama({"rope_type": "llama3"} | LLAMA3), ours(RotaryScaling("llama3", 8.0, 12))),
    "yarn": (lambda: llama({"rope_type": "yarn"} | YARN), ours(RotaryScaling("yarn", 4.0, 12))),
    "yarn, exact": (
        lambda: llama({"rope_type": "yarn", "truncate": False, "beta_fast": 2, "attention_factor": 0.9} | YARN),
        ours(RotaryScaling("yarn", 4.0, 12, beta_fast=2.0, ramp_ends="exact", attention_factor=0.9)),
    ),
    "attention bias": (lambda: llama(PLAIN, attention_bias=True), ours(bias="attention")),
    "feed-forward bias": (lambda: llama(PLAIN, mlp_bias=True), ours(bias="feedforward")),
    "mistral": (lambda: theirs(MistralModel, MistralConfig, sliding_window=5), ours(window=5)),
    "smollm3": (
        lambda: theirs(SmolLM3Model, SmolLM3Config, no_rope_layers=[1, 0, 1, 0]),
        ours(unpositioned_layers=(1, 3)),
    ),
    "smollm3, windows": (
        lambda: theirs(
            SmolLM3Model, SmolLM3Config, no_rope_layers=[1, 1, 1, 0], use_sliding_window=True, sliding_window=4,
            layer_types=["sliding_attention", "full_attention"] * 2,
        ),
        ours(unpositioned_layers=(3,), window=4, window_layers=(0, 2)),
    ),
    "olmo2": (lambda: theirs(Olmo2Model, Olmo2Config), ours(**OLMO)),
    "olmo3": (
        lambda: theirs(
            Olmo3Model, Olmo3Config, sliding_window=4,
            rope_parameters={
                "full_attention": {"rope_theta": 500.0, "rope_type": "yarn"} | YARN,
                "sliding_attention": {"rope_theta": 500.0, "rope_type": "default"},
            },
        ),
        ours(
            RotaryScaling("yarn", 4.0, 12), **OLMO, window=4, window_layers=(0, 1, 2), window_position=ROPE
        ),
    ),
}  # fmt: skip


def rules(config: TransformerConfig) -> list[Rule]:
    """Which of transformers' weights are which of ours."""
    attention, compute = "blocks.*.attention.", "blocks.*.feedforward."
    after = config.norm_placement == "branch"
    before, middle = ("post_attention", "post_feedforward") if after else ("input", "post_attention")
    q, kv = config.n_heads * config.head_width, config.key_heads * config.head_width
    bias = {"attention": config.bias == "attention", "compute": config.bias == "feedforward"}
    kinds = {part: BOTH if held else WEIGHT for part, held in bias.items()}
    block = [
        *module(attention + "norm", f"layers.*.{before}_layernorm", kinds=WEIGHT),
        *module(compute + "norm", f"layers.*.{middle}_layernorm", kinds=WEIGHT),
        *module(
            attention + "branch.qkv", *(f"layers.*.self_attn.{name}_proj" for name in "qkv"),
            kinds=kinds["attention"], layout=stacked(q, kv, kv),
        ),
        *module(attention + "branch.out", "layers.*.self_attn.o_proj", kinds=kinds["attention"]),
        *module(
            compute + "branch.up", "layers.*.mlp.gate_proj", "layers.*.mlp.up_proj",
            kinds=kinds["compute"], layout=stacked(config.ffn_width, config.ffn_width),
        ),
        *module(compute + "branch.out", "layers.*.mlp.down_proj", kinds=kinds["compute"]),
    ]  # fmt: skip
    for name in ("q_norm", "k_norm") if config.qk_norm != "none" else ():
        block += module(f"{attention}branch.{name}.1", f"layers.*.self_attn.{name}", kinds=WEIGHT)
    return [*each_layer(block, config.depth), *module("norm", "norm", kinds=WEIGHT)]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_a_composition_of_the_core(name):
    build, config = FAMILIES[name]
    public = awake(build())
    own = Transformer(config, (96,)).eval()
    import_weights(own, public.state_dict(), rules(config), ignored=["embed_tokens.weight"])
    x = torch.randn(2, 40, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = public(inputs_embeds=x).last_hidden_state
        torch.testing.assert_close(own(x, index(40), causal()), expected, atol=1e-5, rtol=1e-5)
        cache = own.new_state(2, 40)
        parts = [own(x[:, i : i + 8], index(8, i), causal(), cache=cache) for i in range(0, 40, 8)]
    if name != "dynamic":  # there each pass has frequencies of its own
        torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-5, rtol=1e-5)


def test_every_part_of_a_family_matters():
    """Without it, the outputs are others: the equality above is not for want of a difference."""
    x, plain = torch.randn(2, 40, 32), ours()
    weights = awake(Transformer(plain, (96,))).state_dict()
    outputs = {}
    for name, (_, config) in FAMILIES.items():
        if (config.bias, config.norm_placement) == (plain.bias, plain.norm_placement):
            stack = Transformer(config, (96,)).eval()
            stack.load_state_dict(weights)
            outputs[name] = stack(x, index(40), causal()).detach()
    assert len(outputs) >= 7
    names = list(outputs)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert (outputs[one] - outputs[other]).abs().max() > 1e-3, (one, other)
