"""Encoders, in which every token attends to every token, and the models made of one: BERT and those after it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from core.checks import check_at_least, check_choices, check_positive
from core.config import TransformerConfig
from core.files.tensors import check_names, check_shape
from core.graph import full, padding
from core.init import initialise
from core.positions import index
from core.transformer import Transformer
from text.models.heads import Head, HeadConfig, Pooling, UnitLength, WordPooling, pool, pool_words
from text.models.neighbours import Neighbours


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of an encoder."""

    vocab_size: int = 0
    """Number of tokens; 0 = what the tokenizer has."""
    context: int = 512
    """The most tokens of a text."""
    types: int = 0
    """Kinds of tokens that are told apart, such as the first and the second of two texts (BERT: 2); 0 = none."""
    neighbours: int = field(default=0, kw_only=True)
    """Tokens before and behind a token that each add a vector of their own, by their distance, to its embedding."""
    core: TransformerConfig = field(default_factory=TransformerConfig)
    """The shape of the blocks."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "context")
        check_at_least(self, 0, "vocab_size", "types", "neighbours")


@dataclass(frozen=True)
class MaskedLMConfig(EncoderConfig):
    """The shape of a masked language model."""

    head: HeadConfig = field(default_factory=lambda: HeadConfig("dense-norm"))
    """What is done to a token before it is compared with the vocabulary."""
    output: Literal["tied", "untied"] = "tied"
    """Whether the map to the vocabulary is the embedding's own matrix."""


@dataclass(frozen=True)
class LabelledConfig(EncoderConfig):
    """The shape of a model that gives labels."""

    labels: tuple[str, ...] = ()
    """Names of the labels, in the order of the scores; () = those of the data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if twice := [label for label in self.labels if self.labels.count(label) > 1]:
            raise ValueError(f"labels hold {twice[0]!r} twice: each needs a name of its own")


@dataclass(frozen=True)
class ClassifierConfig(LabelledConfig):
    """The shape of a classifier of texts."""

    pooling: Pooling = "class"
    """What the head reads: the first token, or the mean or the maximum over all."""
    head: HeadConfig = field(default_factory=lambda: HeadConfig("dense", "tanh"))
    """What is done to it before the scores."""


@dataclass(frozen=True)
class TaggerConfig(LabelledConfig):
    """The shape of a tagger of words or tokens."""

    words: WordPooling = "first"
    """What stands for a word of several tokens: the first of them, their mean, or the mean of their embeddings, so that
    a word enters the core as one token (early-mean), and the context counts words."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """What is done to it before the scores."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.words == "early-mean" and (self.types or self.neighbours):
            raise ValueError(
                f"words = 'early-mean' reads no types = {self.types} and no neighbours = {self.neighbours} of tokens"
            )


@dataclass(frozen=True)
class EmbedderConfig(EncoderConfig):
    """The shape of a model that gives each text a vector."""

    pooling: Pooling = "mean"
    """The first token, or the mean or the maximum over all."""
    length: Literal["free", "unit"] = "free"
    """Whether vectors are divided by their length."""
    max_tokens: int | None = None
    """Tokens of a text that are meant to be read, special ones included; default the context."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "max_tokens")
        if self.max_tokens is not None and self.max_tokens > self.context:
            raise ValueError(f"max_tokens = {self.max_tokens} must be at most the context of {self.context}")


class Encoder(nn.Module):
    """Tokens of a text, each informed by all others (Devlin 2019, 3)."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        if not config.vocab_size:
            raise ValueError("vocab_size = 0: set it to the tokenizer's before building the model")
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.core.dim)
        self.types = nn.Embedding(config.types, config.core.dim) if config.types else None
        self.neighbours = (
            Neighbours(config.vocab_size, config.core.dim, config.neighbours) if config.neighbours else None
        )
        self.core = Transformer(config.core, extent=(config.context,))
        initialise(config.core, dict.fromkeys(self._tables(), "embedding"))

    def features(self, ids: Tensor, lengths: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Tokens after the core: int64 (B, T) -> (B, T, D).

        lengths: int64 (B,), the real tokens at the beginning of each row, whose features do not depend on the rest; by
                 default all of them
        types:   int64 (B, T), the kind of each token; by default all are of the first

        Raises ValueError when there are more tokens than the context, or types that the model does not know.
        """
        if ids.shape[1] > self.config.context:
            raise ValueError(f"{ids.shape[1]} tokens are more than the context of {self.config.context}")
        graph = full() if lengths is None else padding(lengths)
        return self.core(self._embed(ids, lengths, types), index(ids.shape[1], device=ids.device), graph)

    def word_features(self, ids: Tensor, words: Tensor, count: int | None = None) -> Tensor:
        """Words after the core, each of which enters it as the mean of its tokens' embeddings: (B, T) -> (B, W, D).

        words, count: which word each token belongs to, and W: see `text.models.heads.pool_words`

        Raises ValueError when there are more words than the context.
        """
        x = pool_words(self.embed(ids), words, "mean", count)
        if x.shape[1] > self.config.context:
            raise ValueError(f"{x.shape[1]} words are more than the context of {self.config.context}")
        lengths = (words.amax(1) + 1).clamp(min=1)  # (B,)
        return self.core(x, index(x.shape[1], device=x.device), padding(lengths))

    def forward(self, ids: Tensor, lengths: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """The same."""
        return self.features(ids, lengths, types)

    def _tables(self) -> list[nn.Module]:
        near = None if self.neighbours is None else self.neighbours.table
        return [table for table in (self.embed, self.types, near) if table is not None]

    def _embed(self, ids: Tensor, lengths: Tensor | None, types: Tensor | None) -> Tensor:
        x = self.embed(ids)  # (B, T, D)
        if self.neighbours is not None:
            x = x + self.neighbours(ids, lengths)
        if self.types is not None:
            return x + (self.types.weight[0] if types is None else self.types(types))
        if types is not None:
            raise ValueError("types of tokens are given to a model with types = 0, which tells none apart")
        return x

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`)."""
        below, *blocks = self.core.layered_modules()
        return [[*self._tables(), *below], *blocks]


class EncoderModel(nn.Module):
    """An encoder and what a task puts on top of it."""

    config: EncoderConfig

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)

    def features(self, ids: Tensor, lengths: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Tokens after the core, see `Encoder.features`: (B, T) -> (B, T, D)."""
        return self.encoder.features(ids, lengths, types)

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`); the head stands above them."""
        return self.encoder.layered_modules()

    @torch.no_grad()
    def start_from(self, other: "EncoderModel") -> None:
        """Takes over the encoder of another model, whatever its task; of learned positions as many as are needed.

        Raises ValueError naming the weights that it lacks, or that have another shape.
        """
        own, theirs = self.encoder.state_dict(), dict(other.encoder.state_dict())
        check_names(theirs, own, "to start from another model: ")
        for name, tensor in own.items():
            if name == "core.position.tables.0.weight":
                theirs[name] = theirs[name][: len(tensor)]
            check_shape(name, theirs[name], tensor.shape, "to start from another model: ")
        self.encoder.load_state_dict(theirs)


class MaskedLM(EncoderModel):
    """A masked language model: which token was there, at every place or at some (Devlin 2019, 3.1)."""

    config: MaskedLMConfig

    def __init__(self, config: MaskedLMConfig):
        super().__init__(config)
        self.head = Head(config.head, config.core, config.vocab_size)
        if config.output == "tied":
            self.head.out.weight = self.encoder.embed.weight

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor | None = None,
        places: Tensor | None = None,
        types: Tensor | None = None,
    ) -> Tensor:
        """Scores of the tokens at some places: ids (B, T) -> (N, V), or (B, T, V) at all.

        places: int64 (N,), counted along the rows of ids one after another: row T + column. Only these are compared
                with the vocabulary
        """
        return self.head(self.features_at(places, ids, lengths, types))

    def features_at(
        self,
        places: Tensor | None,
        ids: Tensor,
        lengths: Tensor | None = None,
        types: Tensor | None = None,
    ) -> Tensor:
        """What the head reads, arguments as in `forward`: (N, D), or (B, T, D)."""
        x = self.features(ids, lengths, types)
        return x if places is None else x.flatten(0, 1)[places]  # (B T, D) -> (N, D)


class Classifier(EncoderModel):
    """One label for each text (Devlin 2019, 4.1)."""

    config: ClassifierConfig

    def __init__(self, config: ClassifierConfig):
        super().__init__(config)
        self.head = Head(config.head, config.core, count_labels(config), config.core.dropout)

    def forward(self, ids: Tensor, lengths: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Scores of the labels: (B, T) -> (B, K)."""
        return self.head(self.pooled(ids, lengths, types))

    def pooled(self, ids: Tensor, lengths: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """One vector for each text, which the head reads: (B, T) -> (B, D)."""
        return pool(self.features(ids, lengths, types), lengths, self.config.pooling)


class Tagger(EncoderModel):
    """One label for each word, or for each token (Devlin 2019, 5.3)."""

    config: TaggerConfig

    def __init__(self, config: TaggerConfig):
        super().__init__(config)
        self.head = Head(config.head, config.core, count_labels(config), config.core.dropout)

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor | None = None,
        words: Tensor | None = None,
        count: int | None = None,
        types: Tensor | None = None,
    ) -> Tensor:
        """Scores of the labels of all tokens: (B, T) -> (B, T, K), or of words -> (B, W, K).

        words, count: which word each token belongs to, and W: see `text.models.heads.pool_words`
        """
        if self.config.words == "early-mean":
            if words is None or types is not None:
                raise ValueError("words = 'early-mean' needs the word of each token, and tells no types apart")
            return self.head(self.encoder.word_features(ids, words, count))
        x = self.features(ids, lengths, types)
        return self.head(x if words is None else pool_words(x, words, self.config.words, count))


class Embedder(EncoderModel):
    """One vector for each text (Reimers & Gurevych 2019, 3)."""

    config: EmbedderConfig

    def __init__(self, config: EmbedderConfig):
        super().__init__(config)
        self.head = UnitLength() if config.length == "unit" else nn.Identity()

    def forward(self, ids: Tensor, lengths: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Vectors of the texts: (B, T) -> (B, D)."""
        return self.head(pool(self.features(ids, lengths, types), lengths, self.config.pooling))


MODELS: Mapping[type[EncoderConfig], type[EncoderModel]] = {
    MaskedLMConfig: MaskedLM,
    ClassifierConfig: Classifier,
    TaggerConfig: Tagger,
    EmbedderConfig: Embedder,
}
"""The models, by the class of their configuration."""


def count_labels(config: LabelledConfig) -> int:
    """How many labels there are. Raises ValueError if there are none."""
    if not config.labels:
        raise ValueError("labels = (): set them to those of the data before building the model")
    return len(config.labels)
