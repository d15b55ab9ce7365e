"""Llama (Touvron 2023) and models like it: RMSNorm, rotary positions, gated feed-forward, grouped heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from einops import rearrange
from torch import Tensor

from core.config import FeedForwardKind, OptionalNormKind, PositionConfig, TransformerConfig
from core.files.weights import BOTH, WEIGHT, Layout, Rule, each_layer, module, stacked
from text.models.gpt import GPTConfig
from text.pretrained.family import Family, Supported, head_rules

Activation = Literal["silu", "gelu"]
Bias = Literal["all", "qkv", "none"]
TO_OURS: dict[Activation, FeedForwardKind] = {"silu": "swiglu", "gelu": "geglu"}
FROM_OURS: dict[FeedForwardKind, Activation] = {"swiglu": "silu", "geglu": "gelu"}


@dataclass(frozen=True)
class LlamaLike(Family):
    """The fields that these models share."""

    prefix = "model."
    embedding = "model.embed_tokens.weight"
    buffers = ("*.rotary_emb.inv_freq",)
    qk_norm: ClassVar[OptionalNormKind] = "none"
    without_effect: ClassVar[tuple[str, ...]] = ("pretraining_tp", "is_llama_config")
    supported: ClassVar[Supported] = {
        "core.position.kind": ("rotary",),
        "core.feedforward": tuple(FROM_OURS),
        "core.norm": ("rmsnorm",),
        "core.norm_placement": ("pre",),
        "core.qk_norm": ("none",),
        "core.bias": ("none",),
    }

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: Activation = "silu"
    rms_norm_eps: float = 1e-6
    rope_theta: float | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    attention_dropout: float = 0.0
    tie_word_embeddings: bool = False
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

    def bias(self) -> Bias:
        """Which of our linear maps have a bias."""
        return "none"

    def to_config(self) -> GPTConfig:
        core = TransformerConfig(
            dim=self.hidden_size,
            depth=self.num_hidden_layers,
            n_heads=self.num_attention_heads,
            n_kv_heads=self.num_key_value_heads or self.num_attention_heads,
            head_dim=self.head_dim or self.hidden_size // max(1, self.num_attention_heads),
            ffn_dim=self.intermediate_size,
            feedforward=TO_OURS[self.hidden_act],
            norm="rmsnorm",
            norm_eps=self.rms_norm_eps,
            qk_norm=self.qk_norm,
            bias=self.bias(),
            position=PositionConfig("rotary", base=self.rotary_base(), pairing="halves"),
            attention_dropout=self.attention_dropout,
        )
        head: Literal["tied", "untied"] = "tied" if self.tie_word_embeddings else "untied"
        return GPTConfig(self.vocab_size, self.max_position_embeddings, head, core)

    @classmethod
    def from_config(cls, config: GPTConfig) -> LlamaLike:
        core = cls.require_supported(config)
        return cls(
            vocab_size=config.vocab_size,
            hidden_size=core.dim,
            intermediate_size=core.ffn_width,
            num_hidden_layers=core.depth,
            num_attention_heads=core.n_heads,
            max_position_embeddings=config.context,
            num_key_value_heads=core.key_heads,
            head_dim=core.head_width,
            hidden_act=FROM_OURS[core.feedforward],
            rms_norm_eps=core.norm_eps,
            rope_theta=core.position.base,
            rope_parameters={"rope_theta": core.position.base, "rope_type": "default"},
            attention_dropout=core.attention_dropout,
            tie_word_embeddings=config.head == "tied",
            **cls.own_fields(core),
        )

    @classmethod
    def own_fields(cls, core: TransformerConfig) -> dict[str, Any]:
        """Values of the fields that only this family has."""
        return {}

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

    attention_bias: bool = False
    mlp_bias: bool = False
    rope_interleaved: Literal[False] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention_bias != self.mlp_bias:
            raise ValueError(f"attention_bias = {self.attention_bias} and mlp_bias = {self.mlp_bias} must be equal")

    def bias(self) -> Bias:
        return "all" if self.attention_bias else "none"

    @classmethod
    def own_fields(cls, core: TransformerConfig) -> dict[str, Any]:
        if core.dim % core.n_heads:
            raise ValueError(f"core.n_heads = {core.n_heads} must divide core.dim = {core.dim} in the llama layout")
        return {"attention_bias": core.bias == "all", "mlp_bias": core.bias == "all"}


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
        return {"sliding_window": None}


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

    def bias(self) -> Bias:
        return "qkv"


@dataclass(frozen=True)
class Qwen3(LlamaLike):
    """Qwen3 (Yang 2025): queries and keys are normalised."""

    model_type = "qwen3"
    architecture = "Qwen3ForCausalLM"
    without_effect = (*LlamaLike.without_effect, "sliding_window", "max_window_layers")
    supported: ClassVar[Supported] = {**LlamaLike.supported, "core.qk_norm": ("rmsnorm",)}
    qk_norm = "rmsnorm"

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
