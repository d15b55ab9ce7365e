"""One block, and the stacks made of it: encoder, decoder, encoder-decoder.

The three differ by their graph and by whether blocks consult a memory, not by class.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from core.attention import Attention, CrossAttention
from core.config import TransformerConfig
from core.decoding.cache import Cache
from core.feedforward import build_feedforward
from core.graph import Graph, Route, Span, full, route
from core.init import initialise
from core.norms import build_norm
from core.positions import Rotation, build_position

Role = Literal["self", "cross"]
EVERY, LAST = slice(None), slice(-1, None)


class Pass(NamedTuple):
    """What every block of one forward pass shares."""

    route: Route
    rotation: Rotation | None = None
    memory: Tensor | None = None  # (B, S, D)
    crossing: Route = Route()
    cache: Cache | None = None


class LayerScale(nn.Module):
    """A learned gain per channel of a residual branch, small at first (Touvron 2021, CaiT, eq. 2)."""

    def __init__(self, width: int, initial: float):
        super().__init__()
        self.gain = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


class Residual(nn.Module):
    """x + branch(norm(x)), or norm(x + branch(x)) with post-norm; the branch scaled, dropped out, its path dropped."""

    def __init__(self, branch: nn.Module, config: TransformerConfig, drop_path: float):
        super().__init__()
        self.branch = branch
        self.norm = build_norm(config.norm, config.dim, config)
        self.scale = LayerScale(config.dim, config.layer_scale) if config.layer_scale else nn.Identity()
        self.drop = build_drop(config.dropout, drop_path)
        self.post = config.norm_placement == "post"

    def forward(self, x: Tensor, *args: object) -> Tensor:
        if self.post:
            return self.norm(x + self.drop(self.scale(self.branch(x, *args))))
        return x + self.drop(self.scale(self.branch(self.norm(x), *args)))


class Block(nn.Module):
    """Communicate, perhaps consult a memory, then compute."""

    def __init__(self, config: TransformerConfig, layer: int, role: Role = "self"):
        super().__init__()
        drop_path = config.drop_path * layer / max(1, config.depth - 1)
        self.layer = layer
        self.attention = Residual(Attention(config), config, drop_path)
        self.crossing = Residual(CrossAttention(config), config, drop_path) if role == "cross" else None
        self.feedforward = Residual(build_feedforward(config), config, drop_path)

    def forward(self, x: Tensor, shared: Pass, read: slice = EVERY) -> Tensor:
        """x (B, T, D) -> (B, T, D), or those of the T tokens that are read."""
        x = self.attention(x, shared.route, shared.rotation, shared.cache, self.layer)
        if self.crossing is not None:
            x = self.crossing(x, shared.memory, shared.crossing, shared.cache, self.layer)
        return self.feedforward(x[:, read])


class Transformer(nn.Module):
    """A stack of blocks over tokens that somebody else made.

    extent: the number of coordinates along each axis; its length is the number of axes.
    role:   "cross" blocks also attend to a memory.
    """

    def __init__(self, config: TransformerConfig, extent: tuple[int, ...], role: Role = "self"):
        super().__init__()
        self.config = config
        self.position = build_position(config, extent)
        self.drop = build_drop(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer, role) for layer in range(config.depth))
        final = config.norm if config.norm_placement == "pre" else "none"
        self.norm = build_norm(final, config.dim, config)
        initialise(self, config)

    def forward(
        self,
        x: Tensor,
        coords: Tensor,
        graph: Graph,
        *,
        memory: Tensor | None = None,
        memory_graph: Graph | None = None,
        cache: Cache | None = None,
        read: slice = EVERY,
    ) -> Tensor:
        """Pass messages between tokens.

        x:            (B, T, D), float
        at:           (T, A) or (B, T, A), int64, or float where positions take fractions: see `core.positions`
        graph:        over places in line, those in the cache included
        memory:       (B, S, D), for blocks of role "cross"; `memory_graph` says who hears which of it (default all)
        cache:        keys and values of earlier tokens; x holds the tokens that follow them
        read:         the tokens whose outputs are asked for; the last feed-forward is not computed for the others

        Returns (B, T, D), or only the tokens in `read`. Raises ValueError when the cache has no room for x.
        """
        if (memory is None) != (self.blocks[0].crossing is None):
            raise ValueError("memory is given exactly when the blocks consult one: role = 'cross'")
        shared = self.prepare(x, coords, graph, memory, memory_graph, cache)
        embedded = self.position.embed(coords)
        x = self.drop(x if embedded is None else x + embedded.type_as(x))
        *earlier, last = self.blocks
        for block in earlier:
            x = block(x, shared)
        y = self.norm(last(x, shared, read))
        if cache is not None:
            cache.advance(x.shape[1])
        return y

    def prepare(
        self,
        x: Tensor,
        coords: Tensor,
        graph: Graph,
        memory: Tensor | None,
        memory_graph: Graph | None,
        cache: Cache | None,
    ) -> Pass:
        """Everything that is computed once for all blocks."""
        batch, queries = x.shape[:2]
        start = 0 if cache is None else cache.length
        if cache is not None:
            cache.require(queries)
        bias = self.position.bias(coords, coords if cache is None else cache.locate(coords))
        own = route(graph, Span(batch, queries, start + queries, start), x.device, bias)
        crossing = Route()
        if memory is not None:
            crossing = route(memory_graph or full(), Span(batch, queries, memory.shape[1], start), x.device)
        return Pass(own, self.position.rotation(coords), memory, crossing, cache)

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """An empty cache for `batch` rows of up to `capacity` tokens, in this model's dtype and on its device."""
        c = self.config
        like = next(self.parameters())
        return Cache((c.depth, batch, c.key_heads, capacity, c.head_width), like)


class EncoderDecoder(nn.Module):
    """An encoder whose output is the memory that a decoder consults (Vaswani 2017, fig. 1)."""

    def __init__(self, encoder: Transformer, decoder: Transformer):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor, coords: Tensor, graph: Graph) -> Tensor:
        """Source tokens (B, S, D) -> memory (B, S, D)."""
        return self.encoder(x, coords, graph)

    def forward(
        self,
        source: tuple[Tensor, Tensor, Graph],
        target: tuple[Tensor, Tensor, Graph],
        memory_graph: Graph | None = None,
    ) -> Tensor:
        """(x, at, graph) of the source and of the target -> (B, T, D).

        memory_graph: who in the target hears which of the source (default all): the source's padding, once more
        """
        return self.decoder(*target, memory=self.encode(*source), memory_graph=memory_graph)


def build_drop(dropout: float, drop_path: float = 0.0) -> nn.Module:
    """Dropout of channels, then stochastic depth of whole branches (timm's, Huang 2016)."""
    parts: list[nn.Module] = [nn.Dropout(dropout)] if dropout else []
    if drop_path:
        from timm.layers import DropPath

        parts.append(DropPath(drop_path))
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts) if parts else nn.Identity()
