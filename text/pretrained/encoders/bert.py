"""BERT (Devlin 2019), RoBERTa (Liu 2019) and DistilBERT (Sanh 2019): one block under three sets of names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch

from core.files.weights import SAME, WEIGHT, Layout, Rule, each_layer, module, stacked
from text.models.encoder import ClassifierConfig, EncoderConfig, EncoderModel, MaskedLMConfig, TaggerConfig
from text.models.heads import HeadConfig
from text.pretrained.encoders.base import EncoderFamily
from text.pretrained.family import ACTIVATIONS, Activation, Plain, Supported, equals, zero_filled


@dataclass(frozen=True, kw_only=True)
class PostNorm(EncoderFamily):
    """What the three share: learned positions, LayerNorm after each sum, biases everywhere."""

    supported: ClassVar[Supported] = {
        "core.position.kind": ("learned",),
        "core.feedforward": tuple(dict.fromkeys(ACTIVATIONS.values())),
        "core.norm": ("layernorm",),
        "core.norm_placement": ("post",),
        "core.embedding_norm": ("layernorm",),
        "core.qk_norm": ("none",),
        "core.bias": ("all", "attention", "qkv", "feedforward", "none"),  # those that are not there are saved as zeros
    }
    pooler: ClassVar[Literal["tanh", "relu"]] = "tanh"
    """The activation of the head of a classifier."""
    layers: ClassVar[str]
    """What the names of the weights of blocks begin with, after the prefix."""
    block: ClassVar[Mapping[str, tuple[str, ...]]]
    """The modules of a block, by ours."""

    @classmethod
    def own_fields(cls, config: EncoderConfig) -> dict[str, Any]:
        core = config.core
        cls.require("core.n_kv_heads", core.key_heads, [core.n_heads])
        cls.require("core.head_dim", core.head_width, [core.dim / core.n_heads])
        return super().own_fields(config)

    @classmethod
    def completed(cls, model: EncoderModel) -> EncoderModel:
        """With biases of zero where it has none."""
        return zero_filled(model, replace(model.config, core=replace(model.config.core, bias="all")))

    def head(self, kind: type[EncoderConfig]) -> HeadConfig:
        if kind is MaskedLMConfig:
            return HeadConfig("dense-norm", self.activation_of_head())
        return HeadConfig("dense", self.pooler) if kind is ClassifierConfig else HeadConfig()

    def activation_of_head(self) -> Plain:
        """That of the head of a masked language model."""
        return "gelu"

    def encoder_rules(self, config: EncoderConfig) -> list[Rule]:
        layer, thirds = f"{self.prefix}{self.layers}.*.", stacked(*(config.core.dim,) * 3)
        block = [
            rule
            for ours, names in self.block.items()
            for rule in module(
                f"encoder.core.blocks.*.{ours}",
                *(layer + name for name in names),
                layout=thirds if len(names) == 3 else SAME,
            )
        ]
        ours, theirs = "encoder.core.position.tables.0", self.prefix + "embeddings."
        types = module("encoder.types", theirs + "token_type_embeddings", kinds=WEIGHT) if config.types else []
        return [
            *module("encoder.embed", theirs + "word_embeddings", kinds=WEIGHT),
            *types,
            *module(ours, theirs + "position_embeddings", kinds=WEIGHT, layout=self.positions()),
            *module("encoder.core.embedding_norm", theirs + "LayerNorm"),
            *each_layer(block, config.core.depth),
        ]

    def positions(self) -> Layout:
        """How our table of positions lies in theirs."""
        return SAME


@dataclass(frozen=True, kw_only=True)
class Bert(PostNorm):
    """The fields of a BERT's `config.json`."""

    model_type = "bert"
    stem = "Bert"
    architecture = "BertModel"
    prefix = "bert."
    buffers: ClassVar[tuple[str, ...]] = ("*embeddings.position_ids", "*pooler.dense.*", "cls.seq_relationship.*")
    bare_names = ("cls.*",)
    spare = ("classifier_dropout", "pooler_*", "directionality")
    layers = "encoder.layer"
    embedding = "embeddings.word_embeddings"
    block: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "attention.branch.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention.branch.out": ("attention.output.dense",),
        "attention.norm": ("attention.output.LayerNorm",),
        "feedforward.branch.up": ("intermediate.dense",),
        "feedforward.branch.out": ("output.dense",),
        "feedforward.norm": ("output.LayerNorm",),
    }
    heads: ClassVar[Mapping[type[EncoderConfig], Mapping[str, str]]] = {
        MaskedLMConfig: {
            "head.transform.dense": "cls.predictions.transform.dense",
            "head.transform.norm": "cls.predictions.transform.LayerNorm",
        },
        ClassifierConfig: {"head.transform.dense": "bert.pooler.dense", "head.out": "classifier"},
        TaggerConfig: {"head.out": "classifier"},
    }
    output_map = "cls.predictions.decoder"
    output_bias = "cls.predictions.bias"

    vocab_size: int = equals("vocab_size", 30522)
    hidden_size: int = equals("core.dim", 768)
    intermediate_size: int = equals("core.ffn_dim", 3072, saved="core.ffn_width")
    num_hidden_layers: int = equals("core.depth", 12)
    num_attention_heads: int = equals("core.n_heads", 12)
    type_vocab_size: int = equals("types", 2)
    hidden_act: Activation = equals("core.feedforward", "gelu", ACTIVATIONS)
    layer_norm_eps: float = equals("core.norm_eps", 1e-12)
    hidden_dropout_prob: float = equals("core.dropout", 0.1)
    attention_probs_dropout_prob: float = equals("core.attention_dropout", 0.1)

    @classmethod
    def own_fields(cls, config: EncoderConfig) -> dict[str, Any]:
        return super().own_fields(config) | {"type_vocab_size": max(1, config.types)}

    @classmethod
    def completed(cls, model: EncoderModel) -> EncoderModel:
        """With one type of tokens, whose vector is zero, where it tells none apart."""
        whole = super().completed(model)
        return zero_filled(whole, replace(whole.config, types=max(1, whole.config.types)))

    def activation_of_head(self) -> Plain:
        return ACTIVATIONS[self.hidden_act]


@dataclass(frozen=True, kw_only=True)
class Roberta(Bert):
    """The fields of a RoBERTa's: the same encoder, whose positions are counted from behind the padding token's id."""

    model_type = "roberta"
    stem = "Roberta"
    architecture = "RobertaModel"
    prefix = "roberta."
    buffers = ("*embeddings.position_ids", "*pooler.dense.*")
    bare_names = ("lm_head.*",)
    heads: ClassVar[Mapping[type[EncoderConfig], Mapping[str, str]]] = {
        MaskedLMConfig: {"head.transform.dense": "lm_head.dense", "head.transform.norm": "lm_head.layer_norm"},
        ClassifierConfig: {"head.transform.dense": "classifier.dense", "head.out": "classifier.out_proj"},
        TaggerConfig: {"head.out": "classifier"},
    }
    output_map = "lm_head.decoder"
    output_bias = "lm_head.bias"

    vocab_size: int = equals("vocab_size", 50265)
    pad_token_id: int = 1

    def context(self) -> int:
        return self.max_position_embeddings - self.before()

    def before(self) -> int:
        """Rows of the table of positions that belong to none."""
        return self.pad_token_id + 1

    @classmethod
    def own_fields(cls, config: EncoderConfig) -> dict[str, Any]:
        return super().own_fields(config) | {"max_position_embeddings": config.context + cls.pad_token_id + 1}

    def with_ids(self, ids: Mapping[str, int | None]) -> Self:
        """Raises ValueError for a tokenizer without padding, from whose id positions are counted."""
        if ids["pad"] is None:
            raise ValueError("the roberta layout counts positions from the padding token, which the tokenizer lacks")
        rows = self.context() + ids["pad"] + 1
        return replace(self, pad_token_id=ids["pad"], max_position_embeddings=rows)

    def activation_of_head(self) -> Plain:
        return "gelu"

    def positions(self) -> Layout:
        before = self.before()
        return Layout(
            lambda parts: parts[0][before:],
            lambda ours: [torch.cat((ours.new_zeros(before, ours.shape[1]), ours))],
        )


@dataclass(frozen=True, kw_only=True)
class DistilBert(PostNorm):
    """The fields of a DistilBERT's `config.json`."""

    model_type = "distilbert"
    stem = "DistilBert"
    architecture = "DistilBertModel"
    prefix = "distilbert."
    buffers = ("*embeddings.position_ids",)
    bare_names = ("vocab_*",)
    spare = ("sinusoidal_pos_embds", "qa_dropout", "seq_classif_dropout", "tie_weights_")
    supported: ClassVar[Supported] = {**PostNorm.supported, "types": (0,), "core.norm_eps": (1e-12,)}
    pooler = "relu"
    layers = "transformer.layer"
    block: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "attention.branch.qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention.branch.out": ("attention.out_lin",),
        "attention.norm": ("sa_layer_norm",),
        "feedforward.branch.up": ("ffn.lin1",),
        "feedforward.branch.out": ("ffn.lin2",),
        "feedforward.norm": ("output_layer_norm",),
    }
    heads: ClassVar[Mapping[type[EncoderConfig], Mapping[str, str]]] = {
        MaskedLMConfig: {"head.transform.dense": "vocab_transform", "head.transform.norm": "vocab_layer_norm"},
        ClassifierConfig: {"head.transform.dense": "pre_classifier", "head.out": "classifier"},
        TaggerConfig: {"head.out": "classifier"},
    }
    output_map = "vocab_projector"
    output_bias = "vocab_projector.bias"

    vocab_size: int = equals("vocab_size", 30522)
    dim: int = equals("core.dim", 768)
    hidden_dim: int = equals("core.ffn_dim", 3072, saved="core.ffn_width")
    n_layers: int = equals("core.depth", 6)
    n_heads: int = equals("core.n_heads", 12)
    activation: Activation = equals("core.feedforward", "gelu", ACTIVATIONS)
    dropout: float = equals("core.dropout", 0.1)
    attention_dropout: float = equals("core.attention_dropout", 0.1)

    def activation_of_head(self) -> Plain:
        return ACTIVATIONS[self.activation]
