"""What the families of encoders share: the head that a folder has, its labels, and how texts are pooled."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from core.files.serialize import to_dict
from core.files.weights import BOTH, WEIGHT, Layout, Rule, module
from text.models.encoder import (
    MODELS,
    ClassifierConfig,
    EmbedderConfig,
    EncoderConfig,
    EncoderModel,
    LabelledConfig,
    MaskedLMConfig,
    TaggerConfig,
)
from text.models.heads import HeadConfig
from text.pretrained.family import TIED, Family
from text.pretrained.sentences import sentence_files

HEADS: dict[str, type[EncoderConfig]] = {
    "Model": EmbedderConfig,
    "ForMaskedLM": MaskedLMConfig,
    "ForSequenceClassification": ClassifierConfig,
    "ForTokenClassification": TaggerConfig,
    "ForPreTraining": MaskedLMConfig,
}
"""By the end of an architecture's name; of several the first is written."""
SINGLE = "single_label_classification"
READ_ONLY = ("sentence_transformers", "is_causal", "num_labels", "problem_type")
"""Fields that are not written."""


@dataclass(frozen=True, kw_only=True)
class EncoderFamily(Family[EncoderModel, EncoderConfig]):
    """A family of encoders, each model of which is named by its `architectures`."""

    models: ClassVar[Mapping[type, type[nn.Module]]] = MODELS
    stem: ClassVar[str]
    """What the names of all its architectures begin with."""
    bare_names: ClassVar[tuple[str, ...]]
    """Patterns of the weights of heads, which vectors of texts do not need."""
    heads: ClassVar[Mapping[type[EncoderConfig], Mapping[str, str]]]
    """The modules of each head, by ours."""
    embedding: ClassVar[str] = "embeddings.word_embeddings"
    """The module of the vectors of tokens, after the prefix."""
    output_map: ClassVar[str]
    """The module of the map to the vocabulary, whose weight is the embedding's where they are tied."""
    output_bias: ClassVar[str]
    """The name of its bias."""
    training: ClassVar[tuple[str, ...]] = (*Family.training, "words")
    resolved: ClassVar[tuple[str, ...]] = (*Family.resolved, "types")

    max_position_embeddings: int = 512
    architectures: list[str] | None = None
    is_decoder: Literal[False] = False
    is_causal: Literal[False] | None = None
    tie_word_embeddings: bool = True
    num_labels: int | None = None
    id2label: dict[str, str] | None = None
    problem_type: str | None = None
    sentence_transformers: dict[str, Any] | None = None
    """What is written beside: see `text.pretrained.sentences`."""

    def config_class(self) -> type[EncoderConfig]:
        """By the architecture. Raises ValueError for one that is not supported."""
        if self.sentence_transformers is not None:
            return EmbedderConfig
        name = (self.architectures or [self.architecture])[0]
        if name.removeprefix(self.stem) not in HEADS or not name.startswith(self.stem):
            accepted = ", ".join(self.stem + head for head in HEADS)
            raise ValueError(f"architectures = {self.architectures!r} is not supported, accepted are: {accepted}")
        return HEADS[name.removeprefix(self.stem)]

    def rules(self, config: EncoderConfig) -> list[Rule]:
        return [*self.encoder_rules(config), *self.head_rules(config)]

    @abstractmethod
    def encoder_rules(self, config: EncoderConfig) -> list[Rule]:
        """Those of the encoder."""

    def head_rules(self, config: EncoderConfig) -> list[Rule]:
        """Those of the head that a model has."""
        named = self.heads.get(type(config), {}).items()
        rules = [rule for ours, theirs in named for rule in module(ours, theirs, kinds=kinds(config, ours))]
        return rules + (self.output_rules(config) if isinstance(config, MaskedLMConfig) else [])

    def output_rules(self, config: MaskedLMConfig) -> list[Rule]:
        """Those of the map to the vocabulary; a tied one has no weight of its own."""
        tied = config.output == "tied"
        biases = (self.output_bias,) if tied else tuple({f"{self.output_map}.bias": 0, self.output_bias: 0})
        bias = Rule("head.out.bias", biases, Layout(lambda parts: parts[0], lambda ours: [ours] * len(biases)))
        weight = [] if tied else module("head.out", self.output_map, kinds=WEIGHT)
        return weight + ([bias] if "bias" in kinds(config, "head.out") else [])

    @classmethod
    def repeated(cls, config: EncoderConfig) -> dict[str, str]:
        if not isinstance(config, MaskedLMConfig) or config.output == "untied":
            return {}
        names = {f"{cls.output_map}.weight": f"{cls.prefix}{cls.embedding}.weight"}
        return names | {f"{cls.output_map}.bias": cls.output_bias}

    @abstractmethod
    def head(self, kind: type[EncoderConfig]) -> HeadConfig:
        """What the head of a masked language model, a classifier or a tagger does."""

    def our_values(self) -> dict[str, Any]:
        values, kind = super().our_values() | {"context": self.context()}, self.config_class()
        if issubclass(kind, LabelledConfig):
            values["labels"] = self.labels()
        if kind is MaskedLMConfig:
            values["output"] = TIED[self.tie_word_embeddings]
        if kind is EmbedderConfig:
            said = self.sentence_transformers or {}
            bound = said.get("max_tokens") or self.context()
            return values | said | {"max_tokens": bound if bound < self.context() else None}
        return values | {"head": to_dict(self.head(kind))}

    def context(self) -> int:
        """The most tokens of a text."""
        return self.max_position_embeddings

    def labels(self) -> list[str]:
        """The names of the labels, in order. Raises ValueError if they are not numbered from 0."""
        count = 2 if self.num_labels is None else self.num_labels
        named = self.id2label or {str(n): f"LABEL_{n}" for n in range(count)}
        numbers = [str(n) for n in range(len(named) if self.num_labels is None else self.num_labels)]
        if set(named) != set(numbers):
            raise ValueError(f"id2label = {named} must name {len(numbers)} labels, from 0 on")
        return [named[number] for number in numbers]

    def remarks(self) -> list[str]:
        return [f"problem_type = {self.problem_type!r}"] if self.problem_type not in (None, SINGLE) else []

    @classmethod
    def own_fields(cls, config: EncoderConfig) -> dict[str, Any]:
        head = next(head for head, kind in HEADS.items() if isinstance(config, kind))
        own: dict[str, Any] = {"architectures": [cls.stem + head], "max_position_embeddings": config.context}
        if isinstance(config, TaggerConfig):
            cls.require("words", config.words, ["first", "mean"])
        if isinstance(config, LabelledConfig):
            own["id2label"] = {str(n): label for n, label in enumerate(config.labels)}
        if isinstance(config, MaskedLMConfig):
            own["tie_word_embeddings"] = config.output == "tied"
        if isinstance(config, EmbedderConfig):
            names = ("pooling", "length", "max_tokens")
            own["sentence_transformers"] = {name: getattr(config, name) for name in names}
        return own

    def to_fields(self) -> dict[str, Any]:
        named = {"label2id": {label: int(n) for n, label in self.id2label.items()}} if self.id2label else {}
        whole = super().to_fields() | named
        return {name: value for name, value in whole.items() if name not in READ_ONLY and value is not None}

    def files(self) -> dict[str, Any]:
        config = self.to_config()
        return dict(sentence_files(config)) if isinstance(config, EmbedderConfig) else {}

    def bare(self) -> bool:
        return self.config_class() is EmbedderConfig

    def ignored(self, config: EncoderConfig) -> tuple[str, ...]:
        return (*self.buffers, *self.bare_names) if isinstance(config, EmbedderConfig) else self.buffers


def kinds(config: Any, ours: str) -> tuple[str, ...]:
    """What a module of a head holds: a weight, and perhaps a bias."""
    held = {
        "head.transform.dense": config.head.bias in ("all", "transform"),
        "head.transform.norm": config.core.bias != "none",
        "head.out": config.head.bias in ("all", "output"),
    }
    return BOTH if held[ours] else WEIGHT
