"""GPT-2 (Radford 2019) and its layout: learned positions, LayerNorm, GELU, biases everywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from core.files.weights import TRANSPOSED, WEIGHT, Rule, each_layer, module
from text.models.gpt import GPT, GPTConfig
from text.pretrained.causal.head import Causal, head_rules
from text.pretrained.family import ACTIVATIONS, TIED, Activation, Supported, equals, zero_filled


@dataclass(frozen=True)
class GPT2(Causal):
    """The fields of a GPT-2's `config.json`."""

    model_type = "gpt2"
    architecture = "GPT2LMHeadModel"
    prefix = "transformer."
    embedding = "transformer.wte.weight"
    buffers = ("*.attn.bias", "*.attn.masked_bias")
    supported: ClassVar[Supported] = {
        "core.position.kind": ("learned",),
        "core.feedforward": tuple(dict.fromkeys(ACTIVATIONS.values())),
        "core.norm": ("layernorm",),
        "core.norm_placement": ("pre",),
        "core.qk_norm": ("none",),
        "core.bias": ("all", "attention", "qkv", "feedforward", "none"),  # those that are not there are saved as zeros
    }

    vocab_size: int = equals("vocab_size")
    n_positions: int = equals("context")
    n_embd: int = equals("core.dim")
    n_layer: int = equals("core.depth")
    n_head: int = equals("core.n_heads")
    n_inner: int | None = equals("core.ffn_dim", None)
    activation_function: Activation = equals("core.feedforward", "gelu_new", ACTIVATIONS)
    layer_norm_epsilon: float = equals("core.norm_eps", 1e-5)
    resid_pdrop: float = equals("core.dropout", 0.1)
    embd_pdrop: float = 0.1
    attn_pdrop: float = equals("core.attention_dropout", 0.1)
    tie_word_embeddings: bool = equals("head", True, TIED)

    def remarks(self) -> list[str]:
        same = self.embd_pdrop == self.resid_pdrop
        return [] if same else [f"embd_pdrop = {self.embd_pdrop} (resid_pdrop = {self.resid_pdrop} is taken)"]

    @classmethod
    def own_fields(cls, config: GPTConfig) -> dict[str, Any]:
        core = config.core
        cls.require("core.n_kv_heads", core.key_heads, [core.n_heads])
        cls.require("core.head_dim", core.head_width, [core.dim / core.n_heads])
        return {"embd_pdrop": core.dropout}

    @classmethod
    def completed(cls, model: GPT) -> GPT:
        """With biases of zero where it has none."""
        return zero_filled(model, replace(model.config, core=replace(model.config.core, bias="all")))

    def rules(self, config: GPTConfig) -> list[Rule]:
        ours, theirs = "core.blocks.*.", "transformer.h.*."
        attention, compute = ours + "attention.branch.", ours + "feedforward.branch."
        block = [
            *module(ours + "attention.norm", theirs + "ln_1"),
            *module(attention + "qkv", theirs + "attn.c_attn", layout=TRANSPOSED),
            *module(attention + "out", theirs + "attn.c_proj", layout=TRANSPOSED),
            *module(ours + "feedforward.norm", theirs + "ln_2"),
            *module(compute + "up", theirs + "mlp.c_fc", layout=TRANSPOSED),
            *module(compute + "out", theirs + "mlp.c_proj", layout=TRANSPOSED),
        ]
        return [
            *module("embed", "transformer.wte", kinds=WEIGHT),
            *module("core.position.tables.0", "transformer.wpe", kinds=WEIGHT),
            *each_layer(block, config.core.depth),
            *module("core.norm", "transformer.ln_f"),
            *head_rules(config),
        ]
