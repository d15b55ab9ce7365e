"""OLMo 2 (OLMo team 2025) and OLMo 3: branches are normalised before they are added, queries and keys as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from core.files.serialize import to_dict
from text.models.gpt import GPTConfig
from text.pretrained.causal.llama import ATTENTION_BIAS, LlamaLike
from text.pretrained.causal.windowed import window_values
from text.pretrained.family import Supported, equals
from text.pretrained.rope import read_rope, write_rope

KINDS = ("full_attention", "sliding_attention")
"""Of layers."""


@dataclass(frozen=True)
class Olmo2(LlamaLike):
    """The fields of an OLMo 2's `config.json`."""

    model_type = "olmo2"
    architecture = "Olmo2ForCausalLM"
    supported: ClassVar[Supported] = {
        **LlamaLike.supported,
        "core.norm_placement": ("branch",),
        "core.qk_norm": ("rmsnorm",),
        "core.qk_norm_over": ("all-heads",),
        "core.bias": tuple(ATTENTION_BIAS.values()),
    }

    rms_norm_eps: float = equals("core.norm_eps", 1e-5)
    attention_bias: bool = equals("core.bias", False, ATTENTION_BIAS)


@dataclass(frozen=True)
class Olmo3(Olmo2):
    """The fields of an OLMo 3's: three of four layers attend to a window, with positions of their own."""

    model_type = "olmo3"
    architecture = "Olmo3ForCausalLM"
    base = 500000.0

    sliding_window: int | None = 4096
    layer_types: list[Literal["full_attention", "sliding_attention"]] | None = None

    def windowed_layers(self) -> Sequence[int]:
        """The layers that attend to a window."""
        if self.layer_types is None:
            return [n for n in range(self.num_hidden_layers) if (n + 1) % 4]
        return [n for n, kind in enumerate(self.layer_types) if kind == "sliding_attention"]

    def ropes(self) -> dict[str, dict[str, Any]]:
        """Those of the layers without a window, to which an older file's `rope_scaling` belongs."""
        for name, value in (self.rope_parameters or {}).items():
            if name not in KINDS:
                raise ValueError(
                    f"rope_parameters.{name} = {value!r} is not supported, accepted are: {', '.join(KINDS)}"
                )
        full = (self.rope_parameters or {}).get(KINDS[0]) or {}
        return (
            {"rope_scaling": full | self.rope_scaling} if self.rope_scaling else {f"rope_parameters.{KINDS[0]}": full}
        )

    def our_values(self) -> dict[str, Any]:
        values, layers = super().our_values(), self.windowed_layers()
        values |= window_values(self.sliding_window, layers, self.num_hidden_layers, values["context"])
        given = (self.rope_parameters or {}).get(KINDS[1]) or {}
        base = float(given.get("rope_theta") or self.rope_theta or self.base)
        position = read_rope(given, base, self.max_position_embeddings, f"rope_parameters.{KINDS[1]}")
        apart = "core.window" in values and position != self.position()
        return values | ({"core.window_position": to_dict(position)} if apart else {})

    @classmethod
    def own_fields(cls, config: GPTConfig) -> dict[str, Any]:
        core = config.core
        own = super().own_fields(config) | {"rope_scaling": None, "sliding_window": core.window}
        own["rope_parameters"] = dict(
            zip(KINDS, map(write_rope, (core.position, core.window_position or core.position)), strict=True)
        )
        windows = [kind.window for kind in core.layer_kinds()]
        return own | {"layer_types": [KINDS[0] if window is None else KINDS[1] for window in windows]}
