"""T5 (Raffel 2020): RMSNorm before each branch, relative positions, no biases, scores that are not scaled.

The first T5 has ReLU, and one matrix for embeddings and head, whose input is divided by sqrt(dim). T5 1.1 and Flan-T5
have gated GELU, and a head of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from core.config import GATED, FeedForwardKind
from core.files.weights import WEIGHT, Rule, each_layer, module, stacked
from text.models.encoder_decoder import EncoderDecoderConfig, Seq2Seq
from text.pretrained.encoder_decoders.common import EncoderDecoderFamily, attention_rules
from text.pretrained.family import Supported, equals, zero_filled

Projection = Literal[
    "relu", "gated-gelu", "gated-gelu_new", "gated-gelu_python", "gated-silu", "gated-swish", "gelu", "gelu_new", "silu"
]
PROJECTIONS: dict[str, FeedForwardKind] = {
    **{"relu": "relu", "gelu": "gelu", "gelu_new": "gelu-tanh", "silu": "silu"},
    **{"gated-gelu": "geglu-tanh", "gated-gelu_new": "geglu-tanh", "gated-gelu_python": "geglu"},
    **{"gated-silu": "swiglu", "gated-swish": "swiglu"},
}
UNBOUNDED = 1 << 20
"""The context of a model that has no bound: relative positions reach any distance."""
SHARED, HEAD = "shared.weight", "lm_head.weight"
EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


@dataclass(frozen=True)
class T5(EncoderDecoderFamily):
    """The fields of a T5's `config.json`."""

    model_type = "t5"
    architecture = "T5ForConditionalGeneration"
    prefix = ""
    buffers = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)  # of old files; never read
    spare = ("initializer_factor", "n_positions", "classifier_dropout")
    supported: ClassVar[Supported] = {
        "core.position.kind": ("t5",),
        "core.position.direction": ("both",),
        "core.feedforward": tuple(dict.fromkeys(PROJECTIONS.values())),
        "core.norm": ("rmsnorm",),
        "core.norm_placement": ("pre",),
        "core.attention_scale": ("none",),
        "core.bias": ("none",),
        "head": ("tied", "untied"),
        "head_scale": ("none", "inverse-sqrt-dim"),
    }

    vocab_size: int = equals("vocab_size")
    d_model: int = equals("core.dim")
    d_kv: int = equals("core.head_dim", saved="core.head_width")
    d_ff: int = equals("core.ffn_dim", saved="core.ffn_width")
    num_layers: int = equals("core.depth")
    num_heads: int = equals("core.n_heads")
    num_decoder_layers: int | None = equals("decoder_depth", None, saved="decoder.depth")
    relative_attention_num_buckets: int = equals("core.position.buckets", 32)
    relative_attention_max_distance: int = equals("core.position.max_distance", 128)
    dropout_rate: float = equals("core.dropout", 0.1)
    layer_norm_epsilon: float = equals("core.norm_eps", 1e-6)
    feed_forward_proj: Projection = equals("core.feedforward", "relu", PROJECTIONS)
    dense_act_fn: str | None = None
    is_gated_act: bool | None = None
    tie_word_embeddings: bool = True
    scale_decoder_outputs: bool | None = None
    pad_token_id: int = equals("pad", 0)
    eos_token_id: int = equals("eos", 1)
    decoder_start_token_id: int | None = None
    is_encoder_decoder: Literal[True] = True

    def __post_init__(self) -> None:
        for name, needed in self.derived().items():
            if (value := getattr(self, name)) not in (needed, None):
                raise ValueError(f"{name} = {value!r} contradicts feed_forward_proj = {self.feed_forward_proj!r}")

    def derived(self) -> dict[str, Any]:
        """What transformers makes of `feed_forward_proj`, where gated GELU always is the approximate one."""
        gate, _, name = self.feed_forward_proj.rpartition("-")
        return {"dense_act_fn": "gelu_new" if gate and name == "gelu" else name, "is_gated_act": gate == "gated"}

    def our_values(self) -> dict[str, Any]:
        scaled = self.tie_word_embeddings if self.scale_decoder_outputs is None else self.scale_decoder_outputs
        return super().our_values() | {
            "context": UNBOUNDED,
            "core.attention_dropout": self.dropout_rate,
            "start": self.pad_token_id if self.decoder_start_token_id is None else self.decoder_start_token_id,
            "head": "tied" if scaled else "untied",
            "head_scale": "inverse-sqrt-dim" if scaled else "none",
        }

    @classmethod
    def own_fields(cls, config: EncoderDecoderConfig) -> dict[str, Any]:
        cls.require_every_head_its_keys(config.core)
        scaled = config.head_scale != "none"
        if scaled:
            cls.require("head", config.head, ["tied"])
        return {"tie_word_embeddings": scaled, "scale_decoder_outputs": scaled, "decoder_start_token_id": config.start}

    def to_fields(self) -> dict[str, Any]:
        return super().to_fields() | self.derived()

    @classmethod
    def completed(cls, model: Seq2Seq) -> Seq2Seq:
        """With a head of its own, be it the embedding once more, where its input is not scaled."""
        head: Literal["tied", "untied"] = "untied" if model.config.head_scale == "none" else "tied"
        return zero_filled(model, replace(model.config, head=head))

    def rules(self, config: EncoderDecoderConfig) -> list[Rule]:
        return [
            Rule("embed.weight", (SHARED,)),
            *each_layer(block_rules(config, "encoder"), config.core.depth),
            *each_layer(block_rules(config, "decoder"), config.decoder.depth),
            *stack_rules("encoder"),
            *stack_rules("decoder"),
            *([] if config.head == "tied" else [Rule("head.weight", (HEAD,))]),
        ]

    @classmethod
    def repeated(cls, config: EncoderDecoderConfig) -> dict[str, str]:
        return dict.fromkeys((*EMBEDDINGS, *([HEAD] if config.head == "tied" else [])), SHARED)

    @classmethod
    def implied(cls, config: EncoderDecoderConfig) -> dict[str, str]:
        return {HEAD: SHARED}  # transformers 5 ties what is equal, whatever the configuration says


def stack_rules(side: Literal["encoder", "decoder"]) -> list[Rule]:
    """The rules of what is around the blocks of a side; the first holds the positions of all."""
    bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias"
    return [
        *module(f"{side}.position.tables.0", bias, kinds=WEIGHT),
        *module(f"{side}.norm", f"{side}.final_layer_norm", kinds=WEIGHT),
    ]


def block_rules(config: EncoderDecoderConfig, side: Literal["encoder", "decoder"]) -> list[Rule]:
    """The rules of one block of a side, whose sub-layers have numbers."""
    core, ours, theirs = config.core, f"{side}.blocks.*", f"{side}.block.*.layer"
    attentions = {"attention": "SelfAttention"} | ({"cross_attention": "EncDecAttention"} if side == "decoder" else {})
    rules = []
    for number, (own, name) in enumerate(attentions.items()):
        maps = [f"{theirs}.{number}.{name}.{part}" for part in "qkvo"]
        rules += attention_rules(f"{ours}.{own}.branch", maps, core, own == "cross_attention", WEIGHT)
        rules += module(f"{ours}.{own}.norm", f"{theirs}.{number}.layer_norm", kinds=WEIGHT)
    last = f"{theirs}.{len(attentions)}"
    gated = core.feedforward in GATED
    up = [f"{last}.DenseReluDense.{name}" for name in (("wi_0", "wi_1") if gated else ("wi",))]
    return [
        *rules,
        *module(f"{ours}.feedforward.branch.up", *up, kinds=WEIGHT, layout=stacked(*[core.ffn_width] * len(up))),
        *module(f"{ours}.feedforward.branch.out", f"{last}.DenseReluDense.wo", kinds=WEIGHT),
        *module(f"{ours}.feedforward.norm", f"{last}.layer_norm", kinds=WEIGHT),
    ]
