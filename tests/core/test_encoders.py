"""Encoders of public families, with transformers' own weights: equal outputs, padded and not."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

from core.config import PositionConfig, TransformerConfig
from core.files.weights import BOTH, WEIGHT, Rule, each_layer, import_weights, module, stacked
from core.graph import padding
from core.positions import index
from core.transformer import Transformer
from tests.core.helpers import awake, tokens

LENGTHS = torch.tensor([20, 13, 4])
SIZES = {
    "vocab_size": 8, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4,
    "max_position_embeddings": 20, "pad_token_id": None,
}  # fmt: skip


def rope(base: float) -> PositionConfig:
    return PositionConfig("rotary", base=base, pairing="halves")


def modern_bert() -> nn.Module:
    """As it is published, but small: every third layer attends to all, the others to 4 places on each side."""
    return ModernBertModel(ModernBertConfig(num_hidden_layers=5, local_attention=8, **SIZES))


MODERN_BERT = TransformerConfig(
    dim=32, depth=5, n_heads=4, ffn_dim=48, feedforward="geglu", bias="none", embedding_norm="layernorm",
    first_norm="none", position=rope(160_000.0), window=5, window_layers=(1, 2, 4), window_position=rope(10_000.0),
)  # fmt: skip


def modern_bert_rules() -> list[Rule]:
    attention, compute = "blocks.*.attention.", "blocks.*.feedforward."
    block = [
        *module(attention + "norm", "layers.*.attn_norm", kinds=WEIGHT),
        *module(attention + "branch.qkv", "layers.*.attn.Wqkv", kinds=WEIGHT),
        *module(attention + "branch.out", "layers.*.attn.Wo", kinds=WEIGHT),
        *module(compute + "norm", "layers.*.mlp_norm", kinds=WEIGHT),
        *module(compute + "branch.up", "layers.*.mlp.Wi", kinds=WEIGHT),
        *module(compute + "branch.out", "layers.*.mlp.Wo", kinds=WEIGHT),
    ]
    norms = module("embedding_norm", "embeddings.norm", kinds=WEIGHT) + module("norm", "final_norm", kinds=WEIGHT)
    layers = each_layer(block, 5)
    return norms + [rule for rule in layers if rule.ours != "blocks.0.attention.norm.weight"]


def bert() -> nn.Module:
    return BertModel(BertConfig(num_hidden_layers=2, **SIZES), add_pooling_layer=False)


BERT = TransformerConfig(
    dim=32, depth=2, n_heads=4, ffn_dim=48, norm_placement="post", norm_eps=1e-12, embedding_norm="layernorm",
    position=PositionConfig("learned"),
)  # fmt: skip


def bert_rules() -> list[Rule]:
    attention, compute, theirs = "blocks.*.attention.", "blocks.*.feedforward.", "encoder.layer.*."
    parts = [f"{theirs}attention.self.{name}" for name in ("query", "key", "value")]
    block = [
        *module(attention + "branch.qkv", *parts, layout=stacked(32, 32, 32)),
        *module(attention + "branch.out", theirs + "attention.output.dense"),
        *module(attention + "norm", theirs + "attention.output.LayerNorm"),
        *module(compute + "branch.up", theirs + "intermediate.dense"),
        *module(compute + "branch.out", theirs + "output.dense"),
        *module(compute + "norm", theirs + "output.LayerNorm"),
    ]
    positions = module("position.tables.0", "embeddings.position_embeddings", kinds=WEIGHT)
    return [*positions, *module("embedding_norm", "embeddings.LayerNorm", kinds=BOTH), *each_layer(block, 2)]


FAMILIES = {
    "ModernBERT": (modern_bert, MODERN_BERT, modern_bert_rules, ["embeddings.tok_embeddings.weight"]),
    "BERT": (bert, BERT, bert_rules, ["embeddings.word_embeddings.weight", "embeddings.token_type_embeddings.weight"]),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_a_composition_of_the_core(name: str) -> None:
    build, config, rules, ignored = FAMILIES[name]
    public, own = awake(build()), Transformer(config, (20,)).eval()
    for parameter_name, parameter in public.named_parameters():
        if "token_type" in parameter_name:  # a sum in the panel's embedding, not in the core
            parameter.data.zero_()
    import_weights(own, public.state_dict(), rules(), ignored=ignored)
    x, real = tokens(3, 20), torch.arange(20) < LENGTHS[:, None]  # (B, T)
    with torch.no_grad():
        expected = public(inputs_embeds=x, attention_mask=real.long()).last_hidden_state
        got = own(x, index(20), padding(LENGTHS))
    torch.testing.assert_close(got[real], expected[real], atol=1e-5, rtol=1e-5)
