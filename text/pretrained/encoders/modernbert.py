"""ModernBERT (Warner 2024): rotary positions, windows, gated units, no biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from core.config import Bias, FeedForwardKind, PositionConfig
from core.files.serialize import to_dict
from core.files.weights import BOTH, WEIGHT, Layout, Rule, each_layer, module
from text.models.encoder import ClassifierConfig, EmbedderConfig, EncoderConfig, MaskedLMConfig, TaggerConfig
from text.models.heads import HeadConfig, Pooling
from text.pretrained.encoders.base import EncoderFamily
from text.pretrained.family import ACTIVATIONS, Activation, Supported, equals
from text.pretrained.rope import heads_layout, read_rope, write_rope

Gate = Activation | Literal["silu", "swish"]
GATES: dict[str, FeedForwardKind] = {"gelu": "geglu", "gelu_python": "geglu", "silu": "swiglu", "swish": "swiglu"}
GATES |= {name: "geglu-tanh" for name, own in ACTIVATIONS.items() if own == "gelu-tanh"}
LAYERS = {"full": "full_attention", "window": "sliding_attention"}
BIASES: dict[tuple[bool, bool, bool], Bias] = {
    (False, False, False): "none",
    (True, True, True): "all",
    (True, False, True): "attention",
    (False, True, True): "feedforward",
}
"""Which of our maps have a bias, by theirs."""
BIASED = ("attention_bias", "mlp_bias", "norm_bias")
HELD: dict[tuple[bool, bool], Literal["all", "transform", "output", "none"]] = {
    (True, True): "all",
    (True, False): "transform",
    (False, True): "output",
    (False, False): "none",
}
"""Which maps of a head have a bias: that of the transform, that to the scores."""
POOLING: dict[str, Pooling] = {"cls": "class", "mean": "mean"}

NAMES = {"head.transform.dense": "head.dense", "head.transform.norm": "head.norm"}
"""The modules of a head, by ours."""


@dataclass(frozen=True, kw_only=True)
class ModernBert(EncoderFamily):
    """The fields of a ModernBERT's `config.json`."""

    model_type = "modernbert"
    stem = "ModernBert"
    architecture = "ModernBertModel"
    prefix = "model."
    buffers = ("*rotary_emb.*inv_freq",)
    bare_names = ("head.*", "decoder.*")
    embedding = "embeddings.tok_embeddings"
    spare = (
        *("embedding_dropout", "mlp_dropout", "classifier_dropout", "sparse_pred*", "deterministic_flash_attn"),
        *("reference_compile", "repad_logits_with_grad", "layer_norm_eps"),
    )
    supported: ClassVar[Supported] = {
        "core.position.kind": ("rotary",),
        "core.position.pairing": ("halves", "interleaved"),
        "core.feedforward": tuple(dict.fromkeys(GATES.values())),
        "core.norm": ("layernorm",),
        "core.norm_placement": ("pre",),
        "core.embedding_norm": ("layernorm",),
        "core.first_norm": ("none",),
        "core.qk_norm": ("none",),
        "core.bias": tuple(BIASES.values()),
        "types": (0,),
    }
    heads: ClassVar[Mapping[type[EncoderConfig], Mapping[str, str]]] = {
        MaskedLMConfig: NAMES,
        ClassifierConfig: NAMES | {"head.out": "classifier"},
        TaggerConfig: NAMES | {"head.out": "classifier"},
    }
    output_map = "decoder"
    output_bias = "decoder.bias"

    vocab_size: int = equals("vocab_size", 50368)
    hidden_size: int = equals("core.dim", 768)
    intermediate_size: int = equals("core.ffn_dim", 1152, saved="core.ffn_width")
    num_hidden_layers: int = equals("core.depth", 22)
    num_attention_heads: int = equals("core.n_heads", 12)
    max_position_embeddings: int = 8192
    hidden_activation: Gate = equals("core.feedforward", "gelu", GATES)
    norm_eps: float = equals("core.norm_eps", 1e-5)
    attention_dropout: float = equals("core.attention_dropout", 0.0)
    attention_bias: bool = False
    mlp_bias: bool = False
    norm_bias: bool = False
    classifier_activation: Activation = "gelu"
    classifier_bias: bool = False
    classifier_pooling: Literal["cls", "mean"] = "cls"
    decoder_bias: bool = True
    local_attention: int = 128
    layer_types: list[Literal["full_attention", "sliding_attention"]] | None = None
    global_attn_every_n_layers: int = 3
    global_rope_theta: float = 160000.0
    local_rope_theta: float | None = 10000.0
    rope_parameters: dict[str, dict[str, Any] | None] | None = None
    rope_scaling: Literal[None] = None

    def windowed_layers(self) -> list[int]:
        """The layers that attend to a window."""
        if self.layer_types is None:
            return [n for n in range(self.num_hidden_layers) if n % self.global_attn_every_n_layers]
        return [n for n, kind in enumerate(self.layer_types) if kind == LAYERS["window"]]

    def position(self, layers: Literal["full", "window"]) -> PositionConfig:
        """The positions of layers with a window or without. Raises ValueError naming what is not supported."""
        for name in self.rope_parameters or {}:
            if name not in LAYERS.values():
                accepted = ", ".join(LAYERS.values())
                raise ValueError(f"rope_parameters.{name} is not a kind of layer, accepted are: {accepted}")
        base = self.global_rope_theta if layers == "full" else self.local_rope_theta or self.global_rope_theta
        given = (self.rope_parameters or {}).get(LAYERS[layers]) or {}
        base, name = float(given.get("rope_theta") or base), f"rope_parameters.{LAYERS[layers]}"
        return read_rope(given, base, self.max_position_embeddings, name)

    def our_values(self) -> dict[str, Any]:
        values, windowed = super().our_values(), self.windowed_layers()
        biases = self.attention_bias, self.mlp_bias, self.norm_bias
        if biases not in BIASES:
            named = " and ".join(f"{name} = {value}" for name, value in zip(BIASED, biases, strict=True))
            raise ValueError(f"{named} are not supported together")
        full, local = self.position("full"), self.position("window")
        values |= {"core.bias": BIASES[biases], "core.position": to_dict(full)}
        if self.config_class() is ClassifierConfig:
            values["pooling"] = POOLING[self.classifier_pooling]
        if not windowed:
            return values
        everywhere = len(windowed) == self.num_hidden_layers
        values |= {"core.window": self.local_attention // 2 + 1, "core.window_layers": [] if everywhere else windowed}
        return values | ({"core.window_position": to_dict(local)} if local != full else {})

    def head(self, kind: type[EncoderConfig]) -> HeadConfig:
        output = self.decoder_bias if kind is MaskedLMConfig else True
        bias = HELD[self.classifier_bias, output]
        return HeadConfig("dense-norm", ACTIVATIONS[self.classifier_activation], bias)

    @classmethod
    def own_fields(cls, config: EncoderConfig) -> dict[str, Any]:
        core = config.core
        cls.require("core.n_kv_heads", core.key_heads, [core.n_heads])
        cls.require("core.head_dim", core.head_width, [core.dim / core.n_heads])
        windows = [kind.window for kind in core.layer_kinds()]
        own = super().own_fields(config) | {
            **next(dict(zip(BIASED, held, strict=True)) for held, bias in BIASES.items() if bias == core.bias),
            "layer_types": [LAYERS["full" if window is None else "window"] for window in windows],
            "rope_parameters": {
                LAYERS["full"]: write_rope(core.position),
                LAYERS["window"]: write_rope(core.window_position or core.position),
            },
        }
        if core.window is not None:
            own["local_attention"] = 2 * (core.window - 1)
        return own | cls.head_fields(config)

    @classmethod
    def head_fields(cls, config: EncoderConfig) -> dict[str, Any]:
        """What describes the head that a model has."""
        if isinstance(config, EmbedderConfig):
            return {}
        head: HeadConfig = config.head  # type: ignore[attr-defined]
        cls.require("head.activation", head.activation, list(ACTIVATIONS.values()))
        own: dict[str, Any] = {"classifier_bias": head.bias in ("all", "transform")}
        own["classifier_activation"] = next(name for name, ours in ACTIVATIONS.items() if ours == head.activation)
        if isinstance(config, MaskedLMConfig):
            own["decoder_bias"] = head.bias in ("all", "output")
        if isinstance(config, ClassifierConfig):
            cls.require("pooling", config.pooling, list(POOLING.values()))
            own["classifier_pooling"] = next(name for name, ours in POOLING.items() if ours == config.pooling)
        return own

    def encoder_rules(self, config: EncoderConfig) -> list[Rule]:
        core, ours, theirs = config.core, "encoder.core.blocks.*.", "model.layers.*."
        norm = WEIGHT if core.bias == "none" else BOTH
        linear = {name: BOTH if core.bias in ("all", name) else WEIGHT for name in ("attention", "feedforward")}
        block = [
            *module(ours + "attention.norm", theirs + "attn_norm", kinds=norm),
            *module(
                ours + "attention.branch.qkv",
                theirs + "attn.Wqkv",
                kinds=linear["attention"],
                layout=in_one(heads_layout(core, (core.n_heads,) * 3), core.dim),
            ),
            *module(ours + "attention.branch.out", theirs + "attn.Wo", kinds=linear["attention"]),
            *module(ours + "feedforward.norm", theirs + "mlp_norm", kinds=norm),
            *module(ours + "feedforward.branch.up", theirs + "mlp.Wi", kinds=linear["feedforward"]),
            *module(ours + "feedforward.branch.out", theirs + "mlp.Wo", kinds=linear["feedforward"]),
        ]
        blocks = each_layer(block, core.depth)
        return [
            *module("encoder.embed", "model.embeddings.tok_embeddings", kinds=WEIGHT),
            *module("encoder.core.embedding_norm", "model.embeddings.norm", kinds=norm),
            *(rule for rule in blocks if not rule.ours.startswith("encoder.core.blocks.0.attention.norm.")),
            *module("encoder.core.norm", "model.final_norm", kinds=norm),
        ]


def in_one(layout: Layout, rows: int) -> Layout:
    """The same layout of three tensors of so many rows each, stacked in one of theirs."""
    return Layout(lambda parts: layout.load(parts[0].split(rows)), lambda ours: [torch.cat(list(layout.save(ours)))])
