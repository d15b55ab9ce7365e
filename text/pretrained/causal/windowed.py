"""Models like Llama in which tokens attend to a window in some layers: Mistral, Qwen2, Qwen3, SmolLM3."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from text.models.gpt import GPTConfig
from text.pretrained.causal.llama import ATTENTION_BIAS, HALVES, LlamaLike
from text.pretrained.family import TIED, Supported, equals


@dataclass(frozen=True)
class Mistral(LlamaLike):
    """Mistral (Jiang 2023): tokens attend to a window."""

    model_type = "mistral"
    architecture = "MistralForCausalLM"

    num_key_value_heads: int | None = equals("core.n_kv_heads", 8, saved="core.key_heads")
    sliding_window: int | None = 4096

    def our_values(self) -> dict[str, Any]:
        values, everywhere = super().our_values(), range(self.num_hidden_layers)
        return values | window_values(self.sliding_window, everywhere, self.num_hidden_layers, values["context"])

    @classmethod
    def own_fields(cls, config: GPTConfig) -> dict[str, Any]:
        return super().own_fields(config) | {"sliding_window": config.core.window}


@dataclass(frozen=True)
class Windowed(LlamaLike):
    """Models of which some layers may attend to a window."""

    sliding_window: int | None = 4096
    use_sliding_window: bool = False
    layer_types: list[Literal["full_attention", "sliding_attention"]] | None = None

    @abstractmethod
    def windowed_layers(self) -> Sequence[int]:
        """The layers with a window where no list of types says which."""

    def our_values(self) -> dict[str, Any]:
        values, depth = super().our_values(), self.num_hidden_layers
        listed = [n for n, kind in enumerate(self.layer_types or []) if kind == "sliding_attention"]
        layers = self.windowed_layers() if self.layer_types is None else listed
        return values | window_values(
            self.sliding_window if self.use_sliding_window else None, layers, depth, values["context"]
        )

    @classmethod
    def own_fields(cls, config: GPTConfig) -> dict[str, Any]:
        windows = [kind.window for kind in config.core.layer_kinds()]
        types = ["full_attention" if window is None else "sliding_attention" for window in windows]
        own = {"sliding_window": config.core.window, "use_sliding_window": any(windows), "layer_types": types}
        return super().own_fields(config) | (own if any(windows) else {"sliding_window": None})


@dataclass(frozen=True)
class Qwen2(Windowed):
    """Qwen2 (Yang 2024): queries, keys and values have a bias."""

    model_type = "qwen2"
    architecture = "Qwen2ForCausalLM"
    supported: ClassVar[Supported] = {**LlamaLike.supported, "core.bias": ("qkv",)}

    num_key_value_heads: int | None = equals("core.n_kv_heads", 32, saved="core.key_heads")
    max_window_layers: int = 28

    def windowed_layers(self) -> Sequence[int]:
        return range(self.max_window_layers, self.num_hidden_layers)


@dataclass(frozen=True)
class Qwen3(Qwen2):
    """Qwen3 (Yang 2025): queries and keys are normalised."""

    model_type = "qwen3"
    architecture = "Qwen3ForCausalLM"
    supported: ClassVar[Supported] = {
        **LlamaLike.supported,
        "core.qk_norm": ("rmsnorm",),
        "core.bias": tuple(ATTENTION_BIAS.values()),
    }

    head_dim: int | None = equals("core.head_dim", 128, saved="core.head_width")
    attention_bias: bool = equals("core.bias", False, ATTENTION_BIAS)


@dataclass(frozen=True)
class SmolLM3(Windowed):
    """SmolLM3 (Bakouch 2025): every fourth layer reads no positions (NoPE, Yang 2025)."""

    model_type = "smollm3"
    architecture = "SmolLM3ForCausalLM"
    base = 2000000.0
    supported: ClassVar[Supported] = {**LlamaLike.supported, "core.bias": tuple(HALVES.values())}

    num_key_value_heads: int | None = equals("core.n_kv_heads", 4, saved="core.key_heads")
    tie_word_embeddings: bool = equals("head", True, TIED)
    sliding_window: int | None = None
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: int = 4
    attention_bias: bool = False
    mlp_bias: bool = False

    def unpositioned(self) -> list[int]:
        """The layers without positions: their own list says 0 where a layer has none."""
        if self.no_rope_layers is None:
            return list(range(self.no_rope_layer_interval - 1, self.num_hidden_layers, self.no_rope_layer_interval))
        return [n for n, rotates in enumerate(self.no_rope_layers[: self.num_hidden_layers]) if not rotates]

    def windowed_layers(self) -> Sequence[int]:
        return self.unpositioned()

    def our_values(self) -> dict[str, Any]:
        bias = HALVES[self.attention_bias, self.mlp_bias]
        return super().our_values() | {"core.bias": bias, "core.unpositioned_layers": self.unpositioned()}

    @classmethod
    def own_fields(cls, config: GPTConfig) -> dict[str, Any]:
        core = config.core
        attention, feedforward = next(halves for halves, bias in HALVES.items() if bias == core.bias)
        own = {"no_rope_layers": [int(n not in core.unpositioned_layers) for n in range(core.depth)]}
        return super().own_fields(config) | own | {"attention_bias": attention, "mlp_bias": feedforward}


def window_values(size: int | None, layers: Sequence[int], depth: int, context: int) -> dict[str, Any]:
    """Our settings for a window of that size in those layers; none where it bounds nothing."""
    if size is None or size >= context or not layers:
        return {}
    return {"core.window": size, "core.window_layers": [] if len(layers) == depth else list(layers)}
