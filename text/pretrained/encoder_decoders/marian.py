"""MarianMT (Junczys-Dowmunt 2018), the layout of OPUS-MT: the Transformer of 2017, its sines before its cosines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from torch import Tensor

from core.config import FeedForwardKind
from core.files.weights import Layout, Rule, each_layer, module
from core.positions import build_position, index
from text.models.encoder_decoder import EncoderDecoderConfig, Seq2Seq
from text.pretrained.encoder_decoders.common import EncoderDecoderFamily, attention_rules
from text.pretrained.family import Supported, equals, zero_filled

Activation = Literal["swish", "silu", "relu", "gelu", "gelu_python", "gelu_new", "gelu_pytorch_tanh"]
ACTIVATIONS: dict[str, FeedForwardKind] = {"swish": "silu", "silu": "silu", "relu": "relu", "gelu": "gelu"}
ACTIVATIONS |= {"gelu_python": "gelu", "gelu_new": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh"}
SCALED = {True: "sqrt-dim", False: "none"}
SHARED = "model.shared.weight"
COPIES = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
ROW = Layout(lambda parts: parts[0][0], lambda ours: [ours[None]])  # (1, V) and (V,)


@dataclass(frozen=True)
class Marian(EncoderDecoderFamily):
    """The fields of a MarianMT's `config.json`."""

    model_type = "marian"
    architecture = "MarianMTModel"
    prefix = "model."
    buffers = ("*.embed_positions.weight",)
    spare = (
        "activation_dropout",
        "classif_dropout",
        "classifier_dropout",
        "*coder_layerdrop",
        "init_std",
        "extra_pos_embeddings",
        "force_bos_token_to_be_generated",
        "num_hidden_layers",
    )
    supported: ClassVar[Supported] = {
        "core.position.kind": ("sinusoidal",),
        "core.position.pairing": ("halves",),
        "core.feedforward": tuple(dict.fromkeys(ACTIVATIONS.values())),
        "core.norm": ("layernorm",),
        "core.norm_placement": ("post",),
        "core.norm_eps": (1e-5,),
        "core.bias": ("all", "attention", "qkv", "feedforward", "none"),  # those that are not there are saved as zeros
        "head": ("tied",),
        "head_bias": ("learned", "none"),
    }

    vocab_size: int = equals("vocab_size")
    d_model: int = equals("core.dim")
    encoder_layers: int = equals("core.depth")
    decoder_layers: int = equals("decoder_depth", saved="decoder.depth")
    encoder_attention_heads: int = equals("core.n_heads")
    decoder_attention_heads: int = equals("core.n_heads")
    encoder_ffn_dim: int = equals("core.ffn_dim", saved="core.ffn_width")
    decoder_ffn_dim: int = equals("core.ffn_dim", saved="core.ffn_width")
    decoder_start_token_id: int = equals("start")
    pad_token_id: int = equals("pad")
    eos_token_id: int = equals("eos", 0)
    forced_eos_token_id: int | None = None
    decoder_vocab_size: int | None = None
    max_position_embeddings: int = equals("context", 1024)
    activation_function: Activation = equals("core.feedforward", "gelu", ACTIVATIONS)
    scale_embedding: bool = equals("embedding_scale", False, SCALED)
    position_amplitude: float = equals("core.position.amplitude", 1.0)  # not a field of theirs, see `constants`
    dropout: float = equals("core.dropout", 0.1)
    attention_dropout: float = equals("core.attention_dropout", 0.0)
    tie_word_embeddings: Literal[True] = True
    share_encoder_decoder_embeddings: Literal[True] = True
    is_encoder_decoder: Literal[True] = True

    def __post_init__(self) -> None:
        for one, other in (
            ("decoder_attention_heads", "encoder_attention_heads"),
            ("decoder_ffn_dim", "encoder_ffn_dim"),
            ("decoder_vocab_size", "vocab_size"),
        ):
            value, needed = getattr(self, one), getattr(self, other)
            if value not in (needed, None):
                raise ValueError(f"{one} = {value} is not supported: {other} = {needed} is that of both sides")

    @classmethod
    def from_fields(cls, given: Mapping[str, Any]) -> tuple[Self, list[str]]:
        layers = given.get("num_hidden_layers")
        if layers not in (None, given.get("encoder_layers")):
            raise ValueError(f"num_hidden_layers = {layers!r} must equal encoder_layers, which it is another name of")
        return super().from_fields(given)

    @classmethod
    def own_fields(cls, config: EncoderDecoderConfig) -> dict[str, Any]:
        core = config.core
        cls.require_every_head_its_keys(core)
        cls.require("core.head_dim", core.head_width, [core.dim / core.n_heads])
        return {"decoder_vocab_size": config.vocab_size}

    @classmethod
    def completed(cls, model: Seq2Seq) -> Seq2Seq:
        """With biases of zero where it has none."""
        core = replace(model.config.core, bias="all")
        return zero_filled(model, replace(model.config, head_bias="learned", core=core))

    def constants(self) -> dict[str, Tensor]:
        """Smaller waves than their own as tables, which transformers reads in place of those that it makes."""
        if self.position_amplitude == 1:
            return {}
        core = self.to_config().core
        table = build_position(core, (self.max_position_embeddings,)).embed(index(self.max_position_embeddings))
        assert table is not None
        return {f"model.{side}.embed_positions.weight": table.clone() for side in ("encoder", "decoder")}

    def rules(self, config: EncoderDecoderConfig) -> list[Rule]:
        return [
            Rule("embed.weight", (SHARED,)),
            *each_layer(block_rules(config, "encoder"), config.core.depth),
            *each_layer(block_rules(config, "decoder"), config.decoder.depth),
            Rule("head.bias", ("final_logits_bias",), ROW),
        ]

    @classmethod
    def repeated(cls, config: EncoderDecoderConfig) -> dict[str, str]:
        return dict.fromkeys(COPIES, SHARED)


def block_rules(config: EncoderDecoderConfig, side: Literal["encoder", "decoder"]) -> list[Rule]:
    """The rules of one block of a side."""
    ours, theirs = f"{side}.blocks.*", f"model.{side}.layers.*"
    attentions = {"attention": "self_attn"} | ({"cross_attention": "encoder_attn"} if side == "decoder" else {})
    rules = [
        *module(f"{ours}.feedforward.branch.up", f"{theirs}.fc1"),
        *module(f"{ours}.feedforward.branch.out", f"{theirs}.fc2"),
        *module(f"{ours}.feedforward.norm", f"{theirs}.final_layer_norm"),
    ]
    for own, name in attentions.items():
        maps = [f"{theirs}.{name}.{part}_proj" for part in ("q", "k", "v", "out")]
        rules += attention_rules(f"{ours}.{own}.branch", maps, config.core, crossed=own == "cross_attention")
        rules += module(f"{ours}.{own}.norm", f"{theirs}.{name}_layer_norm")
    return rules
