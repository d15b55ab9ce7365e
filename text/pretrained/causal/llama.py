"""Llama (Touvron 2023) and models like it: RMSNorm, rotary positions, gated feed-forward, grouped heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from core.config import Bias, FeedForwardKind, PositionConfig
from core.files.serialize import to_dict
from core.files.weights import BOTH, WEIGHT, Rule, each_layer, module, stacked
from text.models.gpt import GPTConfig
from text.pretrained.causal.head import Causal, head_rules
from text.pretrained.family import TIED, Supported, equals
from text.pretrained.rope import heads_layout, read_rope, write_rope

Activation = Literal["silu", "swish", "gelu", "gelu_python"]
ACTIVATIONS: dict[str, FeedForwardKind] = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu", "gelu_python": "geglu"}
ATTENTION_BIAS: dict[bool, Bias] = {False: "none", True: "attention"}
HALVES: dict[tuple[bool, bool], Bias] = {
    (False, False): "none",
    (True, False): "attention",
    (False, True): "feedforward",
    (True, True): "all",
}
"""Which of our maps have a bias, by theirs: of attention, of the feed-forward layer."""
BIASED: dict[str, tuple[Bias, ...]] = {
    "qkv": ("qkv", "attention", "all"),
    "out": ("attention", "all"),
    "feedforward": ("feedforward", "all"),
}
NORMS = {
    "pre": ("input_layernorm", "post_attention_layernorm"),
    "branch": ("post_attention_layernorm", "post_feedforward_layernorm"),
}
"""What the norms of the two branches of a block are called, by where they are."""


@dataclass(frozen=True)
class LlamaLike(Causal):
    """The fields that these models share."""

    prefix = "model."
    embedding = "model.embed_tokens.weight"
    buffers = ("*.rotary_emb.inv_freq",)
    base: ClassVar[float] = 10000.0
    """The rotary base where none is written."""
    supported: ClassVar[Supported] = {
        "core.position.kind": ("rotary",),
        "core.position.pairing": ("halves", "interleaved"),
        "core.feedforward": tuple(dict.fromkeys(ACTIVATIONS.values())),
        "core.norm": ("rmsnorm",),
        "core.norm_placement": ("pre",),
        "core.qk_norm": ("none",),
        "core.bias": ("none",),
    }

    vocab_size: int = equals("vocab_size")
    hidden_size: int = equals("core.dim")
    intermediate_size: int = equals("core.ffn_dim", saved="core.ffn_width")
    num_hidden_layers: int = equals("core.depth")
    num_attention_heads: int = equals("core.n_heads")
    max_position_embeddings: int = equals("context")
    num_key_value_heads: int | None = equals("core.n_kv_heads", None, saved="core.key_heads")
    head_dim: int | None = equals("core.head_dim", None, saved="core.head_width")
    hidden_act: Activation = equals("core.feedforward", "silu", ACTIVATIONS)
    rms_norm_eps: float = equals("core.norm_eps", 1e-6)
    rope_theta: float | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    attention_dropout: float = equals("core.attention_dropout", 0.0)
    tie_word_embeddings: bool = equals("head", False, TIED)

    def our_values(self) -> dict[str, Any]:
        context, position = self.max_position_embeddings, self.position()
        scaling = position.scaling
        reach = scaling.factor * scaling.original_context if scaling.kind in ("dynamic", "yarn") else context
        return super().our_values() | {
            "context": max(context, int(reach)),
            "core.n_kv_heads": self.num_key_value_heads or self.num_attention_heads,
            "core.head_dim": self.head_dim or self.hidden_size // max(1, self.num_attention_heads),
            "core.position": to_dict(position),
        }

    def ropes(self) -> dict[str, dict[str, Any]]:
        """The dictionaries that describe the rotation, by name; the first counts: the older one, as in transformers."""
        named = {"rope_scaling": self.rope_scaling, "rope_parameters": self.rope_parameters}
        return {name: given for name, given in named.items() if given}

    def position(self) -> PositionConfig:
        """The positions that they describe. Raises ValueError if they give different bases."""
        ropes = self.ropes()
        bases = [base for base in (self.rope_theta, *(given.get("rope_theta") for given in ropes.values())) if base]
        if odd := [base for base in bases if not isinstance(base, (int, float))]:
            raise ValueError(f"rope_theta = {odd[0]!r} is not a number")
        if len(set(bases)) > 1:
            raise ValueError(f"rope_theta is given twice, as {' and '.join(map(str, sorted(map(float, set(bases)))))}")
        name, given = next(iter(ropes.items()), ("rope_parameters", {}))
        return read_rope(given, float(bases[0]) if bases else self.base, self.max_position_embeddings, name)

    @classmethod
    def own_fields(cls, config: GPTConfig) -> dict[str, Any]:
        position = config.core.position
        rope = write_rope(position)
        scaled = position.scaling.kind != "none"
        own = {"rope_theta": position.base, "rope_parameters": rope, "rope_scaling": rope if scaled else None}
        if position.scaling.kind == "dynamic":
            own["max_position_embeddings"] = position.scaling.original_context
        return own

    def rules(self, config: GPTConfig) -> list[Rule]:
        core, ours, theirs = config.core, "core.blocks.*.", "model.layers.*."
        attention, feedforward = ours + "attention.branch.", ours + "feedforward.branch."
        qkv = [f"{theirs}self_attn.{name}_proj" for name in "qkv"]
        gate_and_up = [f"{theirs}mlp.{name}_proj" for name in ("gate", "up")]
        kinds = {name: BOTH if core.bias in held else WEIGHT for name, held in BIASED.items()}
        before, between = NORMS[core.norm_placement]
        n_heads = (core.n_heads, core.key_heads, core.key_heads)
        block = [
            *module(ours + "attention.norm", theirs + before, kinds=WEIGHT),
            *module(attention + "qkv", *qkv, kinds=kinds["qkv"], layout=heads_layout(core, n_heads)),
            *module(attention + "out", theirs + "self_attn.o_proj", kinds=kinds["out"]),
            *module(ours + "feedforward.norm", theirs + between, kinds=WEIGHT),
            *module(
                feedforward + "up",
                *gate_and_up,
                kinds=kinds["feedforward"],
                layout=stacked(core.ffn_width, core.ffn_width),
            ),
            *module(feedforward + "out", theirs + "mlp.down_proj", kinds=kinds["feedforward"]),
        ]
        for name, heads in zip(("q_norm", "k_norm"), n_heads, strict=False) if core.qk_norm != "none" else ():
            together = core.qk_norm_over == "all-heads"
            ours_too, gain = f"{name}.1" if together else name, heads_layout(core, (heads if together else 1,))
            block += module(attention + ours_too, f"{theirs}self_attn.{name}", kinds=WEIGHT, layout=gain)
        return [
            *module("embed", "model.embed_tokens", kinds=WEIGHT),
            *each_layer(block, core.depth),
            *module("core.norm", "model.norm", kinds=WEIGHT),
            *head_rules(config),
        ]


@dataclass(frozen=True)
class Llama(LlamaLike):
    """Llama, each half of a block with biases or without."""

    model_type = "llama"
    architecture = "LlamaForCausalLM"
    supported: ClassVar[Supported] = {**LlamaLike.supported, "core.bias": tuple(HALVES.values())}

    attention_bias: bool = False
    mlp_bias: bool = False

    def our_values(self) -> dict[str, Any]:
        return super().our_values() | {"core.bias": HALVES[self.attention_bias, self.mlp_bias]}

    @classmethod
    def own_fields(cls, config: GPTConfig) -> dict[str, Any]:
        core = config.core
        if core.dim % core.n_heads:
            raise ValueError(f"core.n_heads = {core.n_heads} must divide core.dim = {core.dim} in the llama layout")
        attention, feedforward = next(halves for halves, bias in HALVES.items() if bias == core.bias)
        return super().own_fields(config) | {"attention_bias": attention, "mlp_bias": feedforward}
