"""GPT-2 (Radford 2019) and its layout: learned positions, LayerNorm, GELU, biases everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from core.config import FeedForwardKind, PositionConfig, TransformerConfig
from core.files.weights import TRANSPOSED, WEIGHT, Rule, each_layer, module
from text.models.gpt import GPTConfig
from text.pretrained.family import Family, Supported, head_rules

Activation = Literal["gelu_new", "gelu_pytorch_tanh", "gelu", "relu"]
TO_OURS: dict[Activation, FeedForwardKind] = {
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "gelu": "gelu",
    "relu": "relu",
}
FROM_OURS: dict[FeedForwardKind, Activation] = {"gelu-tanh": "gelu_new", "gelu": "gelu", "relu": "relu"}


@dataclass(frozen=True)
class GPT2(Family):
    """The fields of a GPT-2's `config.json`."""

    model_type = "gpt2"
    architecture = "GPT2LMHeadModel"
    prefix = "transformer."
    embedding = "transformer.wte.weight"
    buffers = ("*.attn.bias", "*.attn.masked_bias")
    without_effect = ("n_ctx", "n_special", "predict_special_tokens", "summary_*")
    supported: ClassVar[Supported] = {
        "core.position.kind": ("learned",),
        "core.feedforward": tuple(FROM_OURS),
        "core.norm": ("layernorm",),
        "core.norm_placement": ("pre",),
        "core.qk_norm": ("none",),
        "core.bias": ("all",),
    }

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int | None = None
    activation_function: Activation = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    tie_word_embeddings: bool = True
    scale_attn_weights: Literal[True] = True
    scale_attn_by_inverse_layer_idx: Literal[False] = False
    reorder_and_upcast_attn: Literal[False] = False
    add_cross_attention: Literal[False] = False
    is_encoder_decoder: Literal[False] = False

    def __post_init__(self) -> None:
        if self.embd_pdrop != self.resid_pdrop:
            raise ValueError(f"embd_pdrop = {self.embd_pdrop} must equal resid_pdrop = {self.resid_pdrop}")

    def to_config(self) -> GPTConfig:
        core = TransformerConfig(
            dim=self.n_embd,
            depth=self.n_layer,
            n_heads=self.n_head,
            ffn_dim=self.n_inner,
            feedforward=TO_OURS[self.activation_function],
            norm_eps=self.layer_norm_epsilon,
            position=PositionConfig("learned"),
            dropout=self.resid_pdrop,
            attention_dropout=self.attn_pdrop,
        )
        return GPTConfig(self.vocab_size, self.n_positions, "tied" if self.tie_word_embeddings else "untied", core)

    @classmethod
    def from_config(cls, config: GPTConfig) -> GPT2:
        core = cls.require_supported(config)
        cls.require("core.n_kv_heads", core.key_heads, [core.n_heads])
        cls.require("core.head_dim", core.head_width, [core.dim / core.n_heads])
        return cls(
            vocab_size=config.vocab_size,
            n_positions=config.context,
            n_embd=core.dim,
            n_layer=core.depth,
            n_head=core.n_heads,
            n_inner=core.ffn_dim,
            activation_function=FROM_OURS[core.feedforward],
            layer_norm_epsilon=core.norm_eps,
            resid_pdrop=core.dropout,
            embd_pdrop=core.dropout,
            attn_pdrop=core.attention_dropout,
            tie_word_embeddings=config.head == "tied",
        )

    @classmethod
    def rules(cls, config: GPTConfig) -> list[Rule]:
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
