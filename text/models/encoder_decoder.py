"""An encoder-decoder over one vocabulary. The 2017 Transformer, MarianMT and T5 are shapes of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from core.attention import record_attention
from core.checks import check_at_least, check_choice, check_choices, check_positive
from core.config import PositionConfig, TransformerConfig
from core.decoding.cache import Cache
from core.decoding.window import Bound
from core.graph import Graph, causal, from_place, full, padding
from core.init import initialise
from core.positions import index
from core.transformer import EVERY, LAST, Transformer
from core.vocabulary import VocabularyHead


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """The shape of an encoder-decoder whose source and target share one vocabulary."""

    vocab_size: int = 0
    """Number of tokens; 0 = what the tokenizer has."""
    context: int = 256
    """The most tokens of a source, and of a target."""
    decoder_depth: int | None = None
    """Blocks of the decoder; default as many as the encoder has, `core.depth`."""
    embedding_scale: Literal["none", "sqrt-dim"] = "none"
    """What embeddings are multiplied by: nothing, or sqrt(dim) (Vaswani 2017, 3.4)."""
    head: Literal["tied", "untied"] = "tied"
    """Whether the output map is the embedding's own matrix."""
    head_scale: Literal["none", "inverse-sqrt-dim"] = "none"
    """What the output map's input is multiplied by: nothing, or 1 / sqrt(dim) (T5 with a tied head)."""
    head_bias: Literal["none", "learned"] = "none"
    """Whether the output map has a bias (MarianMT)."""
    start: int = 0
    """Id that a target begins with, before its first token."""
    eos: int = 0
    """Id that ends a target."""
    pad: int = 0
    """Id that fills up rows; no token attends to it."""
    core: TransformerConfig = field(default_factory=TransformerConfig)
    """The shape of the encoder's blocks; the decoder's are like them and attend to the encoder's output as well."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "context", "decoder_depth")
        check_at_least(self, 0, "vocab_size", "start", "eos", "pad")
        check_choice("core.modulation", self.core.modulation, ("none",))
        if self.core.position.kind == "t5":
            check_choice("core.position.direction", self.core.position.direction, ("both",))  # the encoder's
        for name in ("start", "eos", "pad") if self.vocab_size else ():
            if getattr(self, name) >= self.vocab_size:
                raise ValueError(f"{name} = {getattr(self, name)} must be below vocab_size = {self.vocab_size}")
        _ = self.decoder  # raises where other settings do not allow that depth

    @property
    def decoder(self) -> TransformerConfig:
        """The shape of the decoder's blocks; their T5 positions tell apart distances into the past alone."""
        position = self.core.position
        if position.kind == "t5":
            position = replace(position, direction="past")
        return replace(self.core, depth=self.decoder_depth or self.core.depth, position=position)


def shape_2017(
    dim: int = 512, depth: int = 6, n_heads: int = 8, ffn_dim: int = 2048, dropout: float = 0.1, context: int = 256
) -> EncoderDecoderConfig:
    """The Transformer of Vaswani 2017: post-norm, sinusoidal positions, ReLU, biases, shared embeddings times
    sqrt(dim). The defaults are its base model.

    Sines come before cosines, as in its authors' code and in MarianMT. Blocks start as the identity, and embeddings
    small, so that a tied head does not begin with a strong guess that the next token is the last one again; so the
    positions that are added to them are small, too.
    """
    core = TransformerConfig(
        dim=dim,
        depth=depth,
        n_heads=n_heads,
        ffn_dim=ffn_dim,
        feedforward="relu",
        norm_placement="post",
        position=PositionConfig("sinusoidal", pairing="halves", amplitude=0.1),
        init="zero-residual",
        dropout=dropout,
    )
    return EncoderDecoderConfig(context=context, embedding_scale="sqrt-dim", core=core)


def shape_modern(
    dim: int = 512,
    depth: int = 8,
    n_heads: int = 6,
    head_dim: int | None = 64,
    ffn_dim: int = 1024,
    dropout: float = 0.1,
    context: int = 512,
    head: Literal["tied", "untied"] = "untied",
) -> EncoderDecoderConfig:
    """T5 1.1 (Raffel 2020, 2.1; Shazeer 2020): pre-norm RMSNorm, relative positions, gated GELU, no biases, scores
    that are not scaled. The defaults are T5 1.1 small, the end of a text having the id 1.
    """
    core = TransformerConfig(
        dim=dim,
        depth=depth,
        n_heads=n_heads,
        head_dim=head_dim,
        ffn_dim=ffn_dim,
        feedforward="geglu-tanh",
        norm="rmsnorm",
        norm_eps=1e-6,
        attention_scale="none",
        bias="none",
        position=PositionConfig("t5", direction="both"),
        init="zero-residual",
        dropout=dropout,
    )
    return EncoderDecoderConfig(context=context, head=head, eos=1, core=core)


class Seq2Seq(nn.Module):
    """A Transformer from one sequence to another (Vaswani 2017, fig. 1)."""

    def __init__(self, config: EncoderDecoderConfig):
        super().__init__()
        if not config.vocab_size:
            raise ValueError("vocab_size = 0: set it to the tokenizer's before building the model")
        self.config, dim, extent = config, config.core.dim, (config.context,)
        self.embedding_scale = math.sqrt(dim) if config.embedding_scale == "sqrt-dim" else 1.0
        self.embed = nn.Embedding(config.vocab_size, dim)
        self.encoder = Transformer(config.core, extent)
        self.decoder = Transformer(config.decoder, extent, role="cross")
        scale = 1 / math.sqrt(dim) if config.head_scale == "inverse-sqrt-dim" else 1.0
        self.undecoded = {config.start, config.pad} - {config.eos}
        self.head = VocabularyHead(dim, config.vocab_size, config.head_bias == "learned", scale)
        initialise(config.core, {self.embed: "embedding", self.head: "head"})
        if config.head == "tied":
            self.head.weight = self.embed.weight

    def forward(self, source: Tensor, lengths: Tensor | None, target: Tensor) -> Tensor:
        """Logits of what follows each target token, given the true ones before it: (B, T, V), see `features`."""
        return self.head(self.features(source, lengths, target))

    def features(self, source: Tensor, lengths: Tensor | None, target: Tensor) -> Tensor:
        """Target tokens after the decoder, which the head reads: (B, T, D).

        source:  int64 (B, N), filled up on the right
        lengths: int64 (B,), how many tokens of each source are real; None = all
        target:  int64 (B, T), the start token first; what stands behind a row's end changes nothing before it

        Raises ValueError when source or target is longer than the context.
        """
        return self.decode(target, self.encode(source, lengths), source_graph(lengths))

    def alignments(self, source: Tensor, lengths: Tensor | None, target: Tensor) -> Tensor:
        """How much target tokens attend to those of their source: (B, T, N), rows sum to 1; arguments as `features`.

        The mean over the heads of the last block but one, in which alignments show best (Garg 2019, 4.1).
        """
        with record_attention(self) as maps:
            self.features(source, lengths, target)
        layer = max(0, len(self.decoder.blocks) - 2)
        return maps[f"decoder.blocks.{layer}.cross_attention.branch"].mean(1)

    def encode(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The memory that a decoder attends to: (S, N) int64 -> (S, N, D); garbage at places from lengths[s] on."""
        self._check(ids.shape[1], "source")
        coords = index(ids.shape[1], device=ids.device)  # (N, 1)
        return self.encoder(self.embed(ids) * self.embedding_scale, coords, source_graph(lengths))

    def decode(
        self,
        ids: Tensor,
        memory: Tensor,
        graph: Graph | None = None,
        pads: Tensor | None = None,
        cache: Cache | None = None,
        read: slice = EVERY,
    ) -> Tensor:
        """Target tokens ids (B, T) after the decoder: (B, T, D), or only the tokens in `read`.

        memory: (S, N, D), of the encoder; S divides B, and successive rows share a source
        graph:  which target tokens attend to which of their source's (default all)
        pads:   int64 (B,), how many of a row's first places (those in the cache included) are padding
        cache:  keys and values of the tokens before ids, and of the memory
        """
        start = 0 if cache is None else cache.length
        self._check(start + ids.shape[1], "target")
        coords, past = index(ids.shape[1], start, ids.device), causal()  # (T, 1)
        if pads is not None:
            coords = (coords - pads.view(-1, 1, 1)).clamp(min=0)  # (B, T, 1): real tokens count from 0
            past = past & from_place(pads)
        x = self.embed(ids) * self.embedding_scale
        return self.decoder(x, coords, past, memory=memory, memory_graph=graph, cache=cache, read=read)

    def _check(self, tokens: int, what: str) -> None:
        if tokens > self.config.context:
            raise ValueError(f"a {what} of {tokens} tokens is longer than the context of {self.config.context}")

    # What decoding needs (core.decoding.window.Bound)

    def bind(self, source: Tensor, lengths: Tensor | None = None) -> Bound:
        """The decoder bound to sources (S, N), encoded now, for `generate` and `beam_search`. Prompts are [start]."""
        full_rows = lengths is None or bool((lengths == source.shape[1]).all())
        lengths = None if full_rows else lengths
        with torch.inference_mode():
            return Bound(self, self.encode(source, lengths), source_graph(lengths))

    @property
    def context(self) -> int:
        """The most tokens of a target."""
        return self.config.context

    def new_state(self, batch: int, capacity: int) -> Cache:
        """An empty cache."""
        return self.decoder.new_state(batch, capacity)

    def step(
        self,
        ids: Tensor,
        state: Cache,
        pads: Tensor | None = None,
        *,
        memory: Tensor,
        memory_graph: Graph | None = None,
    ) -> Tensor:
        """Append ids (B, T) to the cache; the logits (B, V) of what follows the last of them.

        Those of the start token and of padding are -inf, unless the same id ends a target: no target contains them.
        """
        return self._decodable(self.head(self.decode(ids, memory, memory_graph, pads, state, read=LAST)[:, 0]))

    @property
    def branches(self) -> bool:
        """Whether `branch` is right: not where a layer has a window of places."""
        return all(kind.window is None for kind in self.config.decoder.layer_kinds())

    def branch(
        self,
        ids: Tensor,
        place: int,
        lineage: Graph,
        state: Cache,
        *,
        memory: Tensor,
        memory_graph: Graph | None = None,
    ) -> Tensor:
        """Append a token of each beam, ids (P, K), all at `place`, to the cache; the logits (P, K, V) of what follows.

        lineage: which of the tokens held, and of these, each beam attends to (`core.decoding.tree`)
        """
        coords = index(1, place, ids.device).expand(ids.shape[1], 1)  # (K, 1)
        x = self.embed(ids) * self.embedding_scale
        return self._decodable(
            self.head(self.decoder(x, coords, lineage, memory=memory, memory_graph=memory_graph, cache=state))
        )

    def _decodable(self, logits: Tensor) -> Tensor:
        """Logits (..., V) with -inf for the tokens that no target contains."""
        for token in self.undecoded:
            logits[..., token] = -math.inf
        return logits

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`): the encoder's blocks, then the decoder's."""
        below, *encoder = self.encoder.layered_modules()
        also_below, *decoder = self.decoder.layered_modules()
        encoder[-1].append(self.encoder.norm)
        return [[self.embed, *below, *also_below], *encoder, *decoder]


def source_graph(lengths: Tensor | None) -> Graph:
    """Who attends to which tokens of a source: to those before lengths[s], int64 (S,); None = to all."""
    return full() if lengths is None else padding(lengths)


def pad_rows(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Sources of unequal length as one tensor (S, N), filled up on the right, and their lengths (S,), both int64.

    Raises ValueError for no rows, or for an empty one.
    """
    sizes = [len(row) for row in rows]
    if not sizes:
        raise ValueError("rows = []: at least one source is needed")
    if not all(sizes):
        raise ValueError(f"source {sizes.index(0)} is empty: at least one token is needed")
    ids = torch.full((len(rows), max(sizes)), pad)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = torch.as_tensor(tokens)
    return ids, torch.tensor(sizes)
