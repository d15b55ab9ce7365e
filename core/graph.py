"""Which token attends to which: attention is message passing on a directed graph of tokens.

A graph is about the *order* of tokens: query q and key k are places in a sequence, counted from 0, whatever their
coordinates are. Graphs compose: `causal() & window(256) & padding(lengths)`. They are read in one of two ways:
`edges(b, q, k)` takes index tensors that broadcast (a dense mask, or FlexAttention's `mask_mod`), and `route`
recognises the simple cases that need no mask at all.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from core.switch import with_kernel

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


class Graph:
    """A set of edges (query, key), for every row b of a batch."""

    reflexive: bool = True  # every token attends to itself, so no row of a square mask is empty
    shared: bool = True  # the same for all rows of the batch

    def edges(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        """Whether q attends to k in row b: boolean, broadcasts with the three int64 index tensors."""
        raise TypeError(f"{type(self).__name__} does not define its edges")

    def __and__(self, other: Graph) -> Graph:
        if isinstance(self, Full) or self is other:
            return other
        return self if isinstance(other, Full) else Combined(operator.and_, self, other)

    def __or__(self, other: Graph) -> Graph:
        if isinstance(self, Full) or self is other:
            return self
        return other if isinstance(other, Full) else Combined(operator.or_, self, other)

    def mask(self, batch: int, queries: int, keys: int, start: int = 0, device: torch.device | None = None) -> Tensor:
        """The dense mask: bool (batch or 1, queries, keys). Query 0 is at place `start`."""
        b = torch.arange(1 if self.shared else batch, device=device).view(-1, 1, 1)
        q = torch.arange(start, start + queries, device=device).view(1, -1, 1)
        k = torch.arange(keys, device=device).view(1, 1, -1)
        return self.edges(b, q, k).expand(b.shape[0], queries, keys)


class Full(Graph):
    """Every token attends to every token."""

    def edges(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k >= 0


class Causal(Graph):
    """Every token attends to itself and those before it."""

    def edges(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return q >= k


@dataclass(frozen=True)
class Window(Graph):
    """Every token attends to those less than `size` places away, on both sides."""

    size: int

    def edges(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q - k).abs() < self.size


@dataclass(frozen=True, eq=False)
class Before(Graph):
    """Tokens attend only to the keys before place stop[b]; `stop` is int64 (B,)."""

    stop: Tensor
    reflexive = False
    shared = False

    def edges(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k < self.stop[b]


@dataclass(frozen=True, eq=False)
class From(Graph):
    """Tokens attend only to the keys from place start[b] on; `start` is int64 (B,)."""

    start: Tensor
    reflexive = False
    shared = False

    def edges(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k >= self.start[b]


@dataclass(frozen=True, eq=False)
class Segments(Graph):
    """Only tokens of the same segment attend to each other; `ids` is int64 (B, T)."""

    ids: Tensor
    shared = False

    def edges(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.ids[b, q] == self.ids[b, k]


@dataclass(frozen=True, eq=False)
class Arbitrary(Graph):
    """Any edges: bool (Tq, Tk) or (B, Tq, Tk)."""

    table: Tensor
    reflexive = False

    @property
    def shared(self) -> bool:  # type: ignore[override]
        return self.table.dim() == 2

    def edges(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.table[q, k] if self.shared else self.table[b, q, k]


class Combined(Graph):
    """Edges that are in both of two graphs (`operator.and_`), or in either (`operator.or_`)."""

    def __init__(self, combine: Callable[[Any, Any], Any], left: Graph, right: Graph):
        self.combine, self.left, self.right = combine, left, right
        self.reflexive = combine(left.reflexive, right.reflexive)
        self.shared = left.shared and right.shared

    def edges(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.combine(self.left.edges(b, q, k), self.right.edges(b, q, k))


_FULL, _CAUSAL = Full(), Causal()


@dataclass(frozen=True, eq=False)
class Selected(Graph):
    """Some rows of a batch: row b is what row rows[b] of another graph is; `rows` is int64 (B,)."""

    graph: Graph
    rows: Tensor
    shared = False

    @property
    def reflexive(self) -> bool:  # type: ignore[override]
        return self.graph.reflexive

    def edges(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.graph.edges(self.rows[b], q, k)


def full() -> Graph:
    """Every token attends to every token: an encoder."""
    return _FULL


def causal() -> Graph:
    """Every token attends to itself and the past: a decoder."""
    return _CAUSAL


def window(size: int) -> Graph:
    """Every token attends to those less than `size` >= 1 places away; with `causal()`, itself and the last size - 1."""
    if size < 1:
        raise ValueError(f"size = {size} of a window must be at least 1")
    return Window(size)


def from_place(start: Tensor) -> Graph:
    """No token attends to the first start[b] places (padding on the left); `start`: int64 (B,)."""
    return From(start)


def padding(lengths: Tensor, side: Literal["right", "left"] = "right", width: int | None = None) -> Graph:
    """No token attends to padding. `lengths`: real tokens per row, int64 (B,).

    Padding on the left needs `width`, the common length of the padded rows; places from `width` on are real, so
    that the graph stays right while a cache grows.
    """
    if side not in ("right", "left"):
        raise ValueError(f"side = {side!r} is not one of: right, left")
    if side == "right":
        if width is not None:
            raise ValueError(f"width = {width} has no effect on padding on the right")
        return Before(lengths)
    if width is None:
        raise ValueError("width = None: padding on the left needs the length of the padded rows")
    return From(width - lengths)


def prefix(lengths: Tensor) -> Graph:
    """A prefix LM: all tokens attend to the first lengths[b], and to the rest causally. `lengths`: int64 (B,)."""
    return causal() | Before(lengths)


def segments(ids: Tensor) -> Graph:
    """Packed sequences: only tokens with the same id attend to each other. `ids`: int64 (B, T)."""
    return Segments(ids)


def arbitrary(table: Tensor) -> Graph:
    """Any graph, as a bool table (Tq, Tk) or (B, Tq, Tk)."""
    if table.dtype != torch.bool or table.dim() not in (2, 3):
        raise ValueError(f"table of {table.dtype} with {table.dim()} dimensions must be bool with 2 or 3")
    return Arbitrary(table)


def select(graph: Graph, rows: Tensor) -> Graph:
    """The graph of some rows of a batch, int64 (B,)."""
    return graph if graph.shared else Selected(graph, rows)


class Local(Protocol):
    """Edges among near tokens alone, along which attention goes without a mask of all queries and keys."""

    def attend(self, attend: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...

    def dense(self) -> Route: ...


class Route(NamedTuple):
    """A graph and a bias made ready for attention: computed once per forward pass, used by every layer."""

    causal: bool = False  # the fused causal path, no mask
    mask: Tensor | None = None  # (B or 1, 1, Tq, Tk) bool, True where there is an edge; no row is empty
    fully_masked: Tensor | None = None  # (B or 1, 1, Tq, 1) bool: queries without edges, whose answer is zero
    bias: Tensor | None = None  # (B or 1, H, Tq, Tk), added to the scores
    blocks: BlockMask | None = None  # FlexAttention's block-sparse mask, in place of `mask`
    local: Local | None = None  # what a kernel makes of the graph, in place of all others

    def dense(self) -> Route:
        """The same edges for a path without blocks."""
        if self.local is not None:
            return self.local.dense()
        if self.blocks is None:
            return self
        from torch.nn.attention.flex_attention import create_mask

        batch, _, queries, keys = self.blocks.shape
        device = str(self.blocks.kv_num_blocks.device)
        mask = create_mask(self.blocks.mask_mod, batch, 1, queries, keys, device)  # (B or 1, 1, Tq, Tk)
        return masked_route(mask, self.bias)


class Span(NamedTuple):
    """The places that a pass of attention covers."""

    batch: int
    queries: int
    keys: int
    start: int = 0  # the place of the first query


FLEX_FROM = 128
"""Queries from which FlexAttention takes over the masks on a GPU: one block of its kernel."""


def route(graph: Graph, span: Span, device: torch.device, bias: Tensor | None = None) -> Route:
    """Recognise the simple cases, or build a mask: dense, or block-sparse on a GPU.

    bias: (H, Tq, Tk) or (B, H, Tq, Tk), added to the scores, or None.
    """
    if bias is not None and bias.dim() == 3:
        bias = bias.unsqueeze(0)  # (1, H, Tq, Tk)
    newest = span.queries == 1 and span.start == span.keys - 1  # one query, at the last place
    square = span.start == 0 and span.queries == span.keys
    if isinstance(graph, Full) or (isinstance(graph, Causal) and newest):
        return Route(bias=bias)
    if isinstance(graph, Causal) and square and bias is None:
        return Route(causal=True)
    if device.type == "cuda" and span.queries >= FLEX_FROM:
        return Route(bias=bias, blocks=block_mask(graph, span, device))
    mask = graph.mask(span.batch, span.queries, span.keys, span.start, device)
    mask = mask.unsqueeze(1)  # (B or 1, 1, Tq, Tk)
    if graph.reflexive and span.start + span.queries <= span.keys:
        return Route(mask=mask, bias=bias)
    return masked_route(mask, bias)


def masked_route(mask: Tensor, bias: Tensor | None) -> Route:
    """A route over a mask (B or 1, 1, Tq, Tk) that may have empty rows."""
    fully_masked = ~mask.any(-1, keepdim=True)  # (B or 1, 1, Tq, 1)
    if may_have_no_edges(fully_masked):
        return Route(mask=mask | fully_masked, fully_masked=fully_masked, bias=bias)
    return Route(mask=mask, bias=bias)


@with_kernel
def may_have_no_edges(fully_masked: Tensor) -> bool:
    """Whether queries may be without edges, as fully_masked (B or 1, 1, Tq, 1) says."""
    return True


def block_mask(graph: Graph, span: Span, device: torch.device) -> BlockMask:
    """FlexAttention's block-sparse form of a graph; it gives zeros to a query without edges."""
    from torch.nn.attention.flex_attention import create_block_mask

    def edges(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return graph.edges(b, q + span.start, k)

    batch = None if graph.shared else span.batch
    return create_block_mask(edges, batch, None, span.queries, span.keys, device=str(device))
