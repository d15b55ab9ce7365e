"""What stands on an encoder: heads of linear maps, and pooling that never sees padding."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.checks import check_choices, refuse_unused
from core.config import TransformerConfig
from core.devices import has_values
from core.feedforward import ACTIVATIONS
from core.init import initialise
from core.norms import build_norm
from core.transformer import build_drop
from core.vocabulary import VocabularyHead

Pooling = Literal["class", "mean", "max"]
WordPooling = Literal["first", "mean", "early-mean"]


@dataclass(frozen=True)
class HeadConfig:
    """What a head does to a token, or to a pooled text, before its scores.

    | family     | masked language model      | classes of a text                 | labels of tokens           |
    | ---------- | -------------------------- | --------------------------------- | -------------------------- |
    | BERT       | dense-norm, gelu           | dense, tanh (with its "pooler")   | none                       |
    | RoBERTa    | dense-norm, gelu           | dense, tanh                       | none                       |
    | DistilBERT | dense-norm, gelu           | dense, relu                       | none                       |
    | ModernBERT | dense-norm, gelu, "output" | dense-norm, gelu, "output"        | dense-norm, gelu, "output" |
    """

    transform: Literal["none", "dense", "dense-norm"] = "none"
    """Nothing, a linear map with an activation, or these and a normalisation of the core's kind."""
    activation: Literal["gelu", "gelu-tanh", "relu", "tanh"] = "gelu"
    """After that linear map."""
    bias: Literal["all", "output", "transform", "none"] = "all"
    """Which of the linear maps carry a bias: that of the transform, that to the scores (output), both or none."""

    def __post_init__(self) -> None:
        check_choices(self)
        refuse_unused(self)

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        return {"activation": "transform = 'none' has no activation"} if self.transform == "none" else {}


class Transform(nn.Module):
    """A linear map, an activation, perhaps a normalisation: (..., D) -> (..., D)."""

    def __init__(self, config: HeadConfig, core: TransformerConfig):
        super().__init__()
        self.dense = nn.Linear(core.dim, core.dim, bias=config.bias in ("all", "transform"))
        self.activation = torch.tanh if config.activation == "tanh" else ACTIVATIONS[config.activation]
        self.norm = build_norm(core.norm if config.transform == "dense-norm" else "none", core.dim, core)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(x)))


class Head(nn.Module):
    """Scores of tokens, or of pooled texts: (..., D) -> (..., outputs).

    dropout: before the map to the scores
    """

    def __init__(self, config: HeadConfig, core: TransformerConfig, outputs: int, dropout: float = 0.0):
        super().__init__()
        self.transform = nn.Identity() if config.transform == "none" else Transform(config, core)
        self.drop = build_drop(dropout)
        self.out = VocabularyHead(core.dim, outputs, config.bias in ("all", "output"))
        initialise(core, {self.transform: "core", self.out: "head"})

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(self.transform(x)))

    def loss(self, x: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of x (..., D), summed over targets int64 (...): () float32, see `VocabularyHead.loss`."""
        return self.out.loss(self.drop(self.transform(x)), targets)


class UnitLength(nn.Module):
    """Every vector divided by its length: (..., D) -> (..., D)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)


def pool(features: Tensor, lengths: Tensor | None, pooling: Pooling) -> Tensor:
    """One vector for each text, from its first token or from all its real ones: (B, T, D) -> (B, D).

    lengths: int64 (B,), the real tokens of each row; by default all are. A row of none gives zeros.
    """
    if pooling == "class":
        return features[:, 0]
    if lengths is None:
        return features.mean(1) if pooling == "mean" else features.amax(1)
    places = torch.arange(features.shape[1], device=features.device)
    padding = (places >= lengths.unsqueeze(1)).unsqueeze(-1)  # (B, T, 1)
    if pooling == "max":
        return features.masked_fill(padding, -torch.inf).amax(1).nan_to_num(neginf=0.0)
    return features.masked_fill(padding, 0.0).sum(1) / lengths.clamp(min=1).unsqueeze(1)


def pool_words(features: Tensor, words: Tensor, pooling: Literal["first", "mean"], count: int | None = None) -> Tensor:
    """One vector for each word, from its first token or from all of its tokens: (B, T, D) -> (B, W, D).

    words: int64 (B, T), the number of each token's word, below zero where it belongs to none
    count: W; by default as many as there are

    A word without tokens gives zeros.
    """
    count = int(words.max()) + 1 if count is None else count
    if pooling == "first":
        return _first_of_words(features, words, count)
    numbers = torch.arange(count, device=words.device).view(1, -1, 1)
    weights = (words.unsqueeze(1) == numbers).type_as(features)  # (B, W, T)
    return weights @ features / weights.sum(-1, keepdim=True).clamp(min=1)  # (B, W, D)


def _first_of_words(features: Tensor, words: Tensor, count: int) -> Tensor:
    """The first token of each word, found without comparing all words with all tokens: proteins have thousands."""
    batch, width = words.shape
    places = torch.arange(width, device=words.device).expand(batch, width)
    outside = words.new_full((batch, count + 2), width)  # words below 0 in front, those from `count` on at the end
    first = outside.scatter_reduce(1, words.clamp(-1, count) + 1, places, "amin")[:, 1:-1]  # (B, W)
    rows = first.clamp(max=width - 1) + width * torch.arange(batch, device=words.device).unsqueeze(1)
    found = features.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, (batch, count))  # (B, W, D)
    return found.masked_fill((first == width).unsqueeze(-1), 0.0)


def embed_words(table: nn.Embedding, ids: Tensor, words: Tensor, count: int | None = None) -> Tensor:
    """`pool_words` of the embeddings of tokens, their mean, without a vector for each of them: (B, T) -> (B, W, D)."""
    if count is None:
        count = int(words.max()) + 1 if has_values(words) else words.shape[1]
    rows = count * torch.arange(len(words), device=words.device).unsqueeze(1)
    outside = (words < 0) | (words >= count)
    bags, order = (rows + words).masked_fill(outside, len(words) * count).flatten().sort(stable=True)  # (B T,)
    starts = torch.searchsorted(bags, torch.arange(len(words) * count + 1, device=words.device))
    found = F.embedding_bag(ids.flatten()[order], table.weight, starts, mode="mean")  # (B W + 1, D), the rest last
    return found[:-1].unflatten(0, (len(words), count))
