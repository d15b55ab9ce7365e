"""Encoder-decoders of public families, with transformers' own weights: equal outputs, whole and step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import MarianConfig, MarianModel, T5Config, T5Model

from core.config import PositionConfig, TransformerConfig
from core.files.weights import WEIGHT, Rule, each_layer, import_weights, module, stacked
from core.graph import causal, padding
from core.positions import index
from core.transformer import EncoderDecoder, Transformer
from tests.core.helpers import awake, tokens

LENGTHS = torch.tensor([14, 9, 3])
REAL = torch.arange(14) < LENGTHS[:, None]  # (B, N)


def t5(kind: str) -> nn.Module:
    return T5Model(
        T5Config(
            vocab_size=8, d_model=32, d_kv=6, d_ff=48, num_layers=2, num_heads=4, feed_forward_proj=kind,
            relative_attention_num_buckets=8, relative_attention_max_distance=10,
        )
    )  # fmt: skip


def marian() -> nn.Module:
    layers: dict[str, Any] = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 48))
    }
    return MarianModel(MarianConfig(vocab_size=8, d_model=32, activation_function="relu", pad_token_id=0, **layers))


T5 = TransformerConfig(
    dim=32, depth=2, n_heads=4, head_dim=6, ffn_dim=48, feedforward="relu", norm="rmsnorm", norm_eps=1e-6, bias="none",
    attention_scale="none", position=PositionConfig("t5", buckets=8, max_distance=10, direction="both"),
)  # fmt: skip
MARIAN = TransformerConfig(
    dim=32, depth=2, n_heads=4, ffn_dim=48, feedforward="relu", norm_placement="post",
    position=PositionConfig("sinusoidal", pairing="halves"),
)  # fmt: skip


def t5_rules(gated: bool) -> list[Rule]:
    rules = []
    for side, compute in (("encoder", 1), ("decoder", 2)):
        ours, theirs = f"{side}.blocks.*.", f"{side}.block.*.layer."
        self_attention, last = theirs + "0.SelfAttention.", f"{theirs}{compute}."
        wide = [f"{last}DenseReluDense.{name}" for name in (("wi_0", "wi_1") if gated else ("wi",))]
        block = [
            *module(ours + "attention.branch.qkv", *(self_attention + p for p in "qkv"), layout=stacked(24, 24, 24)),
            *module(ours + "attention.branch.out", self_attention + "o"),
            *module(ours + "attention.norm", theirs + "0.layer_norm"),
            *module(ours + "feedforward.branch.up", *wide, layout=stacked(*[48] * len(wide))),
            *module(ours + "feedforward.branch.out", last + "DenseReluDense.wo"),
            *module(ours + "feedforward.norm", last + "layer_norm"),
        ]
        if side == "decoder":
            cross = theirs + "1.EncDecAttention."
            block += [
                *module(ours + "cross_attention.branch.q", cross + "q"),
                *module(ours + "cross_attention.branch.kv", cross + "k", cross + "v", layout=stacked(24, 24)),
                *module(ours + "cross_attention.branch.out", cross + "o"),
                *module(ours + "cross_attention.norm", theirs + "1.layer_norm"),
            ]
        bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias"
        rules += [*each_layer(block, 2), *module(f"{side}.position.tables.0", bias)]
        rules += module(f"{side}.norm", f"{side}.final_layer_norm")
    return [rule for rule in rules if rule.ours.endswith(WEIGHT)]


def marian_rules() -> list[Rule]:
    rules = []
    for side in ("encoder", "decoder"):
        ours, theirs = f"{side}.blocks.*.", f"{side}.layers.*."
        parts = [f"{theirs}self_attn.{p}_proj" for p in "qkv"]
        rules += [
            *module(ours + "attention.branch.qkv", *parts, layout=stacked(32, 32, 32)),
            *module(ours + "attention.branch.out", theirs + "self_attn.out_proj"),
            *module(ours + "attention.norm", theirs + "self_attn_layer_norm"),
            *module(ours + "feedforward.branch.up", theirs + "fc1"),
            *module(ours + "feedforward.branch.out", theirs + "fc2"),
            *module(ours + "feedforward.norm", theirs + "final_layer_norm"),
        ]
    ours, theirs = "decoder.blocks.*.cross_attention.", "decoder.layers.*.encoder_attn"
    rules += [
        *module(ours + "branch.q", theirs + ".q_proj"),
        *module(ours + "branch.kv", theirs + ".k_proj", theirs + ".v_proj", layout=stacked(32, 32)),
        *module(ours + "branch.out", theirs + ".out_proj"),
        *module(ours + "norm", theirs + "_layer_norm"),
    ]
    return each_layer(rules, 2)


FAMILIES = {
    "T5 v1.0": (lambda: t5("relu"), T5, t5_rules(gated=False)),
    "T5 v1.1": (lambda: t5("gated-gelu"), replace(T5, feedforward="geglu-tanh"), t5_rules(gated=True)),
    "MarianMT": (marian, MARIAN, marian_rules()),
}


def pair(config: TransformerConfig) -> EncoderDecoder:
    """An encoder and a decoder of one shape; the bias of the decoder's positions, if it has one, is for the past."""
    past = replace(config.position, direction="past")
    decoder = replace(config, position=past) if config.position.kind == "t5" else config
    return EncoderDecoder(Transformer(config, (14,)), Transformer(decoder, (14,), "cross")).eval()


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_family_is_a_composition_of_the_core(name: str) -> None:
    build, config, rules = FAMILIES[name]
    public, own = awake(build()), pair(config)
    for part in public.modules():
        if hasattr(part, "create_weight"):
            part.weight.copy_(part.create_weight())  # of sines, which are not drawn
    import_weights(own, public.state_dict(), rules, ignored=["*shared.weight", "*embed_*.weight"])
    source, target, real = tokens(3, 14), tokens(3, 6, seed=5), padding(LENGTHS)
    expected = public(inputs_embeds=source, attention_mask=REAL.long(), decoder_inputs_embeds=target)
    memory = own.encoder(source, index(14), real)
    torch.testing.assert_close(memory[REAL], expected.encoder_last_hidden_state[REAL], atol=1e-5, rtol=1e-5)
    got = own((source, index(14), real), (target, index(6), causal()), memory_graph=real)
    torch.testing.assert_close(got, expected.last_hidden_state, atol=1e-5, rtol=1e-5)
    cache, beams = own.decoder.new_state(6, 6), target.repeat_interleave(2, dim=0)  # two rows a source
    more = {"cache": cache, "memory": memory, "memory_graph": real}
    steps = [own.decoder(beams[:, i : i + 1], index(1, i), causal(), **more) for i in range(6)]
    torch.testing.assert_close(torch.cat(steps, 1), got.repeat_interleave(2, dim=0), atol=1e-5, rtol=1e-5)
