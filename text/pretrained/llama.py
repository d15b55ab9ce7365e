"""Llama (Touvron 2023) and models like it: RMSNorm, rotary positions, gated feed-forward, grouped heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from einops import rearrange
from torch import Tensor

from core.config import FeedForwardKind, TransformerConfig
from core.files.weights import BOTH, WEIGHT, Layout, Rule, each_layer, module, stacked
from text.models.gpt import GPTConfig
from text.pretrained.family import TIED, Family, Supported, equals, head_rules

Activation = Literal["silu", "gelu"]
ACTIVATIONS: dict[Activation, FeedForwardKind] = {"silu": "swiglu", "gelu": "geglu"}


@dataclass(frozen=True)
class LlamaLike(Family):
    """The fields that these models share."""

    prefix = "model."
    embedding = "model.embed_tokens.weight"
    buffers = ("*.rotary_emb.inv_freq",)
    without_effect: ClassVar[tuple[str, ...]] = ("pretraining_tp", "is_llama_config")
    supported: ClassVar[Supported] = {
        "core.position.kind": ("rotary",),
        "core.position.pairing": ("halves", "interleaved"),
        "core.feedforward": tuple(ACTIVATIONS.values()),
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
    rope_theta: float | None = equals("core.position.base", None)
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    attention_dropout: float = equals("core.attention_dropout", 0.0)
    tie_word_embeddings: bool = equals("head", False, TIED)
    is_encoder_decoder: Literal[False] = False

    def __post_init__(self) -> None:
        for name in ("rope_parameters", "rope_scaling"):
            for key, value in (getattr(self, name) or {}).items():
                number = key == "rope_theta" and isinstance(value, (int, float))
                if not number and (key not in ("rope_type", "type") or value != "default"):
                    raise ValueError(
                        f"{name}.{key} = {value!r} is not supported: accepted are rope_theta and rope_type = 'default'"
                    )
        self.rotary_base()

    def rotary_base(self) -> float:
        """The rotary base, wherever it is written; ValueError if two places differ."""
        nested = [(fields or {}).get("rope_theta") for fields in (self.rope_parameters, self.rope_scaling)]
        bases = {float(base) for base in (self.rope_theta, *nested) if base is not None}
        if len(bases) > 1:
            raise ValueError(f"rope_theta is given twice, as {' and '.join(map(str, sorted(bases)))}")
        return bases.pop() if bases else 10000.0

    def our_values(self) -> dict[str, Any]:
        return super().our_values() | {
            "core.n_kv_heads": self.num_key_value_heads or self.num_attention_heads,
            "core.head_dim": self.head_dim or self.hidden_size // max(1, self.num_attention_heads),
            "core.position.base": self.rotary_base(),
        }

    @classmethod
    def own_fields(cls, core: TransformerConfig) -> dict[str, Any]:
        return {"rope_parameters": {"rope_theta": core.position.base, "rope_type": "default"}}

    @classmethod
    def rules(cls, config: GPTConfig) -> list[Rule]:
        core, ours, theirs = config.core, "core.blocks.*.", "model.layers.*."
        attention, feedforward = ours + "attention.branch.", ours + "feedforward.branch."
        qkv = [f"{theirs}self_attn.{name}_proj" for name in "qkv"]
        gate_and_up = [f"{theirs}mlp.{name}_proj" for name in ("gate", "up")]
        qkv_kinds = WEIGHT if core.bias == "none" else BOTH
        kinds = BOTH if core.bias == "all" else WEIGHT
        n_heads = (core.n_heads, core.key_heads, core.key_heads)
        block = [
            *module(ours + "attention.norm", theirs + "input_layernorm", kinds=WEIGHT),
            *module(attention + "qkv", *qkv, kinds=qkv_kinds, layout=heads_layout(core, n_heads)),
            *module(attention + "out", theirs + "self_attn.o_proj", kinds=kinds),
            *module(ours + "feedforward.norm", theirs + "post_attention_layernorm", kinds=WEIGHT),
            *module(feedforward + "up", *gate_and_up, kinds=kinds, layout=stacked(core.ffn_width, core.ffn_width)),
            *module(feedforward + "out", theirs + "mlp.down_proj", kinds=kinds),
        ]
        for name in ("q_norm", "k_norm") if core.qk_norm != "none" else ():
            gain = heads_layout(core, (1,))
            block += module(attention + name, f"{theirs}self_attn.{name}", kinds=WEIGHT, layout=gain)
        return [
            *module("embed", "model.embed_tokens", kinds=WEIGHT),
            *each_layer(block, core.depth),
            *module("core.norm", "model.norm", kinds=WEIGHT),
            *head_rules(config),
        ]


@dataclass(frozen=True)
class Llama(LlamaLike):
    """Llama, with biases everywhere or nowhere."""

    model_type = "llama"
    architecture = "LlamaForCausalLM"
    supported: ClassVar[Supported] = {**LlamaLike.supported, "core.bias": ("none", "all")}

    attention_bias: bool = equals("core.bias", False, {False: "none", True: "all"})
    mlp_bias: bool = equals("core.bias", False, {False: "none", True: "all"})
    rope_interleaved: Literal[False] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention_bias != self.mlp_bias:
            raise ValueError(f"attention_bias = {self.attention_bias} and mlp_bias = {self.mlp_bias} must be equal")

    @classmethod
    def own_fields(cls, core: TransformerConfig) -> dict[str, Any]:
        if core.dim % core.n_heads:
            raise ValueError(f"core.n_heads = {core.n_heads} must divide core.dim = {core.dim} in the llama layout")
        return super().own_fields(core)


@dataclass(frozen=True)
class Mistral(LlamaLike):
    """Mistral (Jiang 2023), if its window spans the whole context."""

    model_type = "mistral"
    architecture = "MistralForCausalLM"

    sliding_window: int | None = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sliding_window is not None and self.sliding_window < self.max_position_embeddings:
            raise ValueError(
                f"sliding_window = {self.sliding_window} must be null or at least "
                f"max_position_embeddings = {self.max_position_embeddings}"
            )

    @classmethod
    def own_fields(cls, core: TransformerConfig) -> dict[str, Any]:
        return super().own_fields(core) | {"sliding_window": None}


@dataclass(frozen=True)
class Qwen2(LlamaLike):
    """Qwen2 (Yang 2024): queries, keys and values have a bias."""

    model_type = "qwen2"
    architecture = "Qwen2ForCausalLM"
    without_effect = (*LlamaLike.without_effect, "sliding_window", "max_window_layers")
    supported: ClassVar[Supported] = {**LlamaLike.supported, "core.bias": ("qkv",)}

    use_sliding_window: Literal[False] = False
    use_mrope: Literal[False] = False
    layer_types: list[Literal["full_attention"]] | None = None


@dataclass(frozen=True)
class Qwen3(LlamaLike):
    """Qwen3 (Yang 2025): queries and keys are normalised."""

    model_type = "qwen3"
    architecture = "Qwen3ForCausalLM"
    without_effect = Qwen2.without_effect
    supported: ClassVar[Supported] = {**LlamaLike.supported, "core.qk_norm": ("rmsnorm",)}

    attention_bias: Literal[False] = False
    use_sliding_window: Literal[False] = False
    layer_types: list[Literal["full_attention"]] | None = None


def heads_layout(core: TransformerConfig, n_heads: tuple[int, ...]) -> Layout:
    """Parts of `n_heads` heads each, stacked; the first two (queries, keys) rotate: by halves, or by pairs as ours."""
    stack = stacked(*(count * core.head_width for count in n_heads))
    if core.position.pairing == "halves":
        return stack

    def reorder(parts: Sequence[Tensor], pattern: str) -> list[Tensor]:
        """Pair n stays pair n: (heads x Dh, ...) to the same shape."""
        rotating = [rearrange(part, pattern, h=count, two=2) for part, count in zip(parts[:2], n_heads, strict=False)]
        return [*rotating, *parts[2:]]

    return Layout(
        lambda parts: stack.load(reorder(parts, "(h two n) ... -> (h n two) ...")),
        lambda own: reorder(stack.save(own), "(h n two) ... -> (h two n) ..."),
    )
