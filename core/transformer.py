"""One block, and the stacks made of it: encoder, decoder, encoder-decoder.

The three differ by their graph and by whether blocks attend to a memory, not by class.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.attention import Attention, CrossAttention, LayerContext, StackedLinear
from core.config import TransformerConfig
from core.decoding.cache import Cache
from core.feedforward import build_feedforward
from core.graph import Full, Graph, Route, Span, full, route, window
from core.init import initialise
from core.norms import build_norm
from core.positions import Position, build_position
from core.switch import with_kernel

Role = Literal["self", "cross"]
EVERY, LAST = slice(None), slice(-1, None)
UNPOSITIONED = Position()


class LayerScale(nn.Module):
    """A learned gain per channel of a residual branch, small at first (Touvron 2021, CaiT, eq. 2)."""

    def __init__(self, width: int, initial: float):
        super().__init__()
        self.gain = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


class Residual(nn.Module):
    """x + branch(norm(x)); the branch scaled, dropped out, its path dropped."""

    def __init__(self, branch: nn.Module, config: TransformerConfig, drop_path: float):
        super().__init__()
        self.branch = branch
        self.norm = build_norm(config.norm, config.dim, config)
        self.scale = LayerScale(config.dim, config.layer_scale) if config.layer_scale else nn.Identity()
        self.drop = build_drop(config.dropout, drop_path)

    def forward(self, x: Tensor, context: LayerContext) -> Tensor:
        return x + self.drop(self.scale(self.branch(self.norm(x), context)))


class PostNormResidual(Residual):
    """norm(x + branch(x)) (Vaswani 2017)."""

    def forward(self, x: Tensor, context: LayerContext) -> Tensor:
        return self.norm(x + self.drop(self.scale(self.branch(x, context))))


class BranchNormResidual(Residual):
    """x + norm(branch(x)) (OLMo 2, 2025)."""

    def forward(self, x: Tensor, context: LayerContext) -> Tensor:
        return x + self.drop(self.scale(self.norm(self.branch(x, context))))


class ModulatedResidual(Residual):
    """x + gate branch((1 + scale) norm(x) + shift), the three made from a condition (Peebles & Xie 2023, fig. 3)."""

    def __init__(self, branch: nn.Module, config: TransformerConfig, drop_path: float):
        super().__init__(branch, config, drop_path)
        parts = dict.fromkeys(("shift", "scale", "gate"), config.dim)
        self.modulation = StackedLinear(config.dim, parts, bias=True)  # starts at zero: no branch at all

    def forward(self, x: Tensor, context: LayerContext) -> Tensor:
        assert context.condition is not None
        shift, scale, gate = self.modulation(F.silu(context.condition)).chunk(3, dim=-1)  # 3 x (B, 1 or T, D)
        y = self.branch(self.norm(x) * (1 + scale) + shift, context)
        return x + self.drop(self.scale(gate * y))


RESIDUALS = {"pre": Residual, "post": PostNormResidual, "branch": BranchNormResidual}


class Block(nn.Module):
    """Communicate, perhaps attend to a memory, then compute."""

    def __init__(self, config: TransformerConfig, layer: int, role: Role = "self"):
        super().__init__()
        drop_path = config.drop_path * layer / max(1, config.depth - 1)
        residual = ModulatedResidual if config.modulation == "adaln" else RESIDUALS[config.norm_placement]
        self.attention = residual(Attention(config, layer), config, drop_path)
        self.cross_attention = residual(CrossAttention(config, layer), config, drop_path) if role == "cross" else None
        self.feedforward = residual(build_feedforward(config), config, drop_path)

    def forward(self, x: Tensor, context: LayerContext, read: slice = EVERY) -> Tensor:
        """x (B, T, D) -> (B, T, D), or those of the T tokens that are read."""
        x = self.attention(x, context)
        if self.cross_attention is not None:
            x = self.cross_attention(x, context)
        return self.feedforward(x[:, read], context.select(read))


class Transformer(nn.Module):
    """A stack of blocks over tokens that a panel made.

    extent: the number of coordinates along each axis; its length is the number of axes.
    role:   "cross" blocks also attend to a memory.
    """

    def __init__(self, config: TransformerConfig, extent: tuple[int, ...], role: Role = "self"):
        super().__init__()
        self.config = config
        self.position = build_position(config, extent)
        windowed = config.window_position
        self.window_position = None if windowed is None else build_position(config, extent, windowed)
        self.embedding_norm = build_norm(config.embedding_norm, config.dim, config)
        self.drop = build_drop(config.dropout)
        blocks = [Block(config, layer, role) for layer in range(config.depth)]
        if config.first_norm == "none":
            blocks[0].attention.norm = nn.Identity()
        self.blocks = nn.ModuleList(blocks)
        final = "none" if config.norm_placement == "post" else config.norm
        self.norm = build_norm(final, config.dim, config)
        initialise(config, {self: "core"})

    def forward(
        self,
        x: Tensor,
        coords: Tensor,
        graph: Graph,
        *,
        position: Position | None = None,
        condition: Tensor | None = None,
        memory: Tensor | None = None,
        memory_graph: Graph | None = None,
        cache: Cache | None = None,
        read: slice = EVERY,
    ) -> Tensor:
        """Pass messages between tokens x (B, T, D), float.

        coords:       (T, A) or (B, T, A), int64, or float where positions take fractions: see `core.positions`
        graph:        over places in the sequence, those in the cache included
        position:     in place of its own, so that one stack serves tokens with several kinds of coordinates
        condition:    (B, D) or (B, T, D), for modulated blocks
        memory:       (S, N, D), for blocks of role "cross"; S divides B, and successive rows share a memory
        memory_graph: which tokens attend to which of their memory's, a row for each memory (default all)
        cache:        keys and values of earlier tokens; x holds the tokens that follow them
        read:         the tokens whose outputs are wanted; the last feed-forward is not computed for the others

        Returns (B, T, D), or the tokens in `read`. ValueError for a full cache, or an unused or missing input.
        """
        self._check(x, condition, memory)
        position = position or self.position
        if condition is not None and condition.dim() == 2:
            condition = condition.unsqueeze(1)  # (B, 1, D)
        others = memory_route(memory, memory_graph or full(), x, cache)
        shared = LayerContext(memory=memory, memory_route=others, condition=condition, cache=cache)
        contexts = self._contexts(shared, position, coords, graph, x)
        x = self._embed(x, position.embed(coords))
        for block, context in zip(self.blocks[:-1], contexts, strict=False):
            x = block(x, context)
        y = self.norm(self.blocks[-1](x, contexts[-1], read))
        if cache is not None:
            cache.advance(x.shape[1])
        return y

    def _contexts(
        self, shared: LayerContext, position: Position, coords: Tensor, graph: Graph, x: Tensor
    ) -> list[LayerContext]:
        """What each block is given: routes and rotations are made once for all layers of a kind."""
        kinds, made = self.config.layer_kinds(), {}
        positions = {"shared": position, "window": self.window_position or position, "none": UNPOSITIONED}
        for kind in dict.fromkeys(kinds):
            read = positions[kind.positions]
            own = position_route(read, coords, graph, x, shared.cache, kind.window)
            made[kind] = shared._replace(route=own, rotation=read.rotation(coords))
        return [made[kind] for kind in kinds]

    def _embed(self, x: Tensor, embedded: Tensor | None) -> Tensor:
        return self.drop(self.embedding_norm(x if embedded is None else x + embedded.type_as(x)))

    def _check(self, x: Tensor, condition: Tensor | None, memory: Tensor | None) -> None:
        if (memory is None) != (self.blocks[0].cross_attention is None):
            raise ValueError("memory must be given exactly when blocks attend to one: role = 'cross'")
        if memory is not None and x.shape[0] % memory.shape[0]:
            raise ValueError(f"memory of {memory.shape[0]} rows must divide the {x.shape[0]} rows of tokens")
        if (condition is None) != (self.config.modulation == "none"):
            raise ValueError("condition must be given exactly when blocks are modulated: modulation = 'adaln'")

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`)."""
        below = [self.position, self.embedding_norm]
        if self.window_position is not None:
            below.append(self.window_position)
        return [below, *([block] for block in self.blocks)]

    def new_state(self, batch: int, capacity: int) -> Cache:
        """An empty cache for `batch` rows of up to `capacity` tokens, in this model's dtype and on its device."""
        c = self.config
        like = next(self.parameters())
        return Cache((c.depth, batch, c.key_heads, capacity, c.head_width), like)


class EncoderDecoder(nn.Module):
    """An encoder whose output is the memory that a decoder attends to (Vaswani 2017, fig. 1)."""

    def __init__(self, encoder: Transformer, decoder: Transformer):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(
        self,
        source: tuple[Tensor, Tensor, Graph],
        target: tuple[Tensor, Tensor, Graph],
        memory_graph: Graph | None = None,
    ) -> Tensor:
        """(x, coords, graph) of the source and of the target -> (B, T, D).

        memory_graph: which tokens of the target attend to which of the source (default all): its padding, once more
        """
        return self.decoder(*target, memory=self.encoder(*source), memory_graph=memory_graph)


def position_route(
    position: Position, coords: Tensor, graph: Graph, x: Tensor, cache: Cache | None, size: int | None = None
) -> Route:
    """The graph among tokens x (B, T, D), those in the cache included, and the bias of their positions.

    size: of a window that bounds the graph, if any
    """
    batch, queries = x.shape[:2]
    start = 0 if cache is None else cache.length
    if cache is not None:
        cache.require(queries)
    if size is not None and size < start + queries:
        graph = graph & window(size)
    bias = position.bias(coords, coords if cache is None else cache.locate(coords))
    return find_route(graph, Span(batch, queries, start + queries, start), x, bias)


@with_kernel
def find_route(graph: Graph, span: Span, like: Tensor, bias: Tensor | None = None) -> Route:
    """The way of attention along a graph among tokens like these."""
    return route(graph, span, like.device, bias)


@dataclass(frozen=True, eq=False)
class Repeated(Graph):
    """Queries that stand for several copies, one after another, of the `queries` places from `start` on."""

    graph: Graph
    queries: int
    start: int
    reflexive = False

    @property
    def shared(self) -> bool:  # type: ignore[override]
        return self.graph.shared

    def edges(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.graph.edges(b, self.start + (q - self.start) % self.queries, k)


def memory_route(memory: Tensor | None, graph: Graph, x: Tensor, cache: Cache | None) -> Route:
    """A graph from tokens x (B, T, D) to a memory (S, N, D), for the queries of the B / S rows of each memory."""
    if memory is None:
        return Route()
    (rows, queries), (sources, keys) = x.shape[:2], memory.shape[:2]
    start = 0 if cache is None else cache.length
    if rows > sources and not isinstance(graph, Full):
        graph = Repeated(graph, queries, start)
    return route(graph, Span(sources, rows // sources * queries, keys, start), x.device)


@with_kernel
def dropout(x: Tensor, p: float) -> Tensor:
    """Each number is zero with probability p, the others are divided by 1 - p (Srivastava 2014)."""
    return F.dropout(x, p)


class Dropout(nn.Dropout):
    """Dropout in training."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x


def build_drop(dropout: float, drop_path: float = 0.0) -> nn.Module:
    """Dropout of channels, then stochastic depth of whole branches (timm's, Huang 2016)."""
    parts: list[nn.Module] = [Dropout(dropout)] if dropout else []
    if drop_path:
        from timm.layers import DropPath

        parts.append(DropPath(drop_path))
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts) if parts else nn.Identity()
