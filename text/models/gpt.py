"""A GPT: embedding, core, head."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from core.checks import check_at_least, check_choices, check_positive
from core.config import TransformerConfig
from core.decoding.cache import Cache
from core.graph import causal, from_place, segments
from core.init import initialise
from core.positions import index
from core.transformer import EVERY, LAST, Transformer
from core.vocabulary import VocabularyHead


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT."""

    vocab_size: int = 0
    """Number of tokens; 0 = what the tokenizer has."""
    context: int = 256
    """The most tokens it attends to."""
    head: Literal["tied", "untied"] = "tied"
    """Whether the output map is the embedding's own matrix."""
    core: TransformerConfig = field(default_factory=TransformerConfig)
    """The shape of the blocks."""
    logit_softcap: float | None = None
    """Bound that logits approach: x becomes bound tanh(x / bound) (Gemma 2, nanochat); default none."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "context", "logit_softcap")
        check_at_least(self, 0, "vocab_size")


class GPT(nn.Module):
    """A decoder-only language model (Radford 2019; with the modern choices of its core, Llama)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        if not config.vocab_size:
            raise ValueError("vocab_size = 0: set it to the tokenizer's before building the model")
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.core.dim)
        self.core = Transformer(config.core, extent=(config.context,))
        self.head = VocabularyHead(config.core.dim, config.vocab_size, softcap=config.logit_softcap)
        initialise(config.core, {self.embed: "embedding", self.head: "head"})
        if config.head == "tied":
            self.head.weight = self.embed.weight

    def forward(self, ids: Tensor, pads: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Logits of each next token: ids (B, T) int64 -> (B, T, V).

        pads:  int64 (B,), how many of a row's first places (those in the cache included) are padding
        cache: keys and values of the tokens before ids

        Raises ValueError when ids reach beyond the context.
        """
        return self.head(self.features(ids, pads, cache))

    def features(
        self,
        ids: Tensor,
        pads: Tensor | None = None,
        cache: Cache | None = None,
        read: slice = EVERY,
        texts: Tensor | None = None,
    ) -> Tensor:
        """Tokens after the core, which the head reads: (B, T) -> (B, T, D), or only the tokens in `read`.

        texts: int64 (B, T), the number of the text that a token is of, where a row holds several one after another:
               none attends to another, and each begins at position 0
        """
        start = 0 if cache is None else cache.length
        if start + ids.shape[1] > self.config.context:
            raise ValueError(f"{start + ids.shape[1]} tokens are more than the context of {self.config.context}")
        coords, graph = index(ids.shape[1], start, ids.device), causal()  # (T, 1)
        if pads is not None:
            coords = (coords - pads.view(-1, 1, 1)).clamp(min=0)  # (B, T, 1): real tokens count from 0
            graph = graph & from_place(pads)
        if texts is not None:
            coords, graph = places_within(texts), graph & segments(texts)
        return self.core(self.embed(ids), coords, graph, cache=cache, read=read)

    # What decoding needs (core.decoding.window.Decodable)

    @property
    def context(self) -> int:
        """The most tokens it attends to."""
        return self.config.context

    def new_state(self, batch: int, capacity: int) -> Cache:
        """An empty cache."""
        return self.core.new_state(batch, capacity)

    def step(self, ids: Tensor, state: Cache, pads: Tensor | None = None) -> Tensor:
        """Append ids (B, T) to the cache; the logits (B, V) of what follows the last of them."""
        return self.head(self.features(ids, pads, state, read=LAST)[:, 0])

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`)."""
        below, *blocks = self.core.layered_modules()
        return [[self.embed, *below], *blocks]


def places_within(texts: Tensor) -> Tensor:
    """The place of each token in its text, from 0: int64 (B, T), numbers of texts one after another -> (B, T, 1)."""
    places = torch.arange(texts.shape[1], device=texts.device)
    begins = torch.ones_like(texts, dtype=torch.bool)
    begins[:, 1:] = texts[:, 1:] != texts[:, :-1]
    starts = torch.where(begins, places, 0).cummax(dim=1).values  # (B, T)
    return (places - starts).unsqueeze(-1)
