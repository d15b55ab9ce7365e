"""Attention block by block on a CPU, where tokens attend to near ones alone: windows, and segments that are packed.

Queries are taken in blocks as long as edges reach; the keys of a block are its own and those of the blocks beside it.
So nothing is as large as queries times keys, and time and memory grow linearly with the length.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from core.devices import has_values
from core.graph import Causal, Combined, Full, Graph, Route, Segments, Span, Window, masked_route

FROM = 512
"""Queries below which a dense mask is no slower."""
SHORT, SHARE = 32, 4
"""The shortest block, and how many of them there must be for blocks to pay."""
Attend = Callable[[Tensor, Tensor, Tensor, Route], Tensor]


class Reach(NamedTuple):
    """How many places back, and forward, edges go at most; infinite without a bound."""

    back: float = torch.inf
    forward: float = torch.inf
    relative: bool = False  # whether it depends on the difference of two places alone if there is an edge


class Piece(NamedTuple):
    """Successive blocks, and the route among their queries and keys."""

    first: int
    last: int  # exclusive
    route: Route  # the mask is (1 or B blocks, 1, size, keys)


@dataclass(frozen=True, eq=False)
class Blocks:
    """A graph as blocks of `size` queries and the keys near them: a `core.graph.Local`."""

    graph: Graph
    span: Span
    size: int
    back: int  # blocks before its own whose keys a block of queries may attend to, and after
    forward: int
    pieces: tuple[Piece, ...]

    def attend(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As `attend` along a dense mask: q (B, H, T, Dh); k, v (B, Hkv, T, Dh) -> (B, H, T, Dh)."""
        q, k, v = self._queries(q), self._keys(k), self._keys(v)  # (B, n, S, H, Dh), 2 x (B, n, K, Hkv, Dh)
        parts = []
        for first, last, way in self.pieces:
            rows = [x[:, first:last].flatten(0, 1).transpose(1, 2) for x in (q, k, v)]  # (B n', H, S or K, Dh)
            y = attend(rows[0], rows[1], rows[2], way).transpose(1, 2)  # (B n', S, H, Dh)
            parts.append(y.unflatten(0, (len(q), -1)))  # (B, n', S, H, Dh)
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return whole.flatten(1, 2)[:, : self.span.queries].transpose(1, 2)  # (B, H, T, Dh)

    def dense(self) -> Route:
        """The same edges as one mask."""
        mask = self.graph.mask(self.span.batch, self.span.queries, self.span.keys)
        return masked_route(mask.unsqueeze(1), None)

    def _queries(self, q: Tensor) -> Tensor:
        """(B, H, T, Dh) -> (B, n, S, H, Dh), zeros behind the end."""
        x = q.transpose(1, 2)  # (B, T, H, Dh)
        return F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % self.size)).unflatten(1, (-1, self.size))

    def _keys(self, k: Tensor) -> Tensor:
        """(B, Hkv, T, Dh) -> (B, n, K, Hkv, Dh): for each block those of all that it may attend to."""
        x = k.transpose(1, 2)  # (B, T, Hkv, Dh)
        tail = -x.shape[1] % self.size
        whole = x.shape[1] + tail
        x = F.pad(x, (0, 0, 0, 0, self.back * self.size, self.forward * self.size + tail))
        starts = range(0, (self.back + self.forward + 1) * self.size, self.size)
        return torch.cat([x[:, at : at + whole].unflatten(1, (-1, self.size)) for at in starts], dim=2)


def kernel(plain: Callable[..., Route], graph: Graph, span: Span, like: Tensor, bias: Tensor | None = None) -> Route:
    """Where a CPU attends among the tokens of one pass, with edges that reach far less than the tokens are many."""
    square = span.start == 0 and span.queries == span.keys >= FROM
    if like.device.type != "cpu" or bias is not None or not square or not has_values(like):
        return plain(graph, span, like, bias)
    near = reach(graph)
    longest = max(near.back, near.forward)
    if longest * SHARE >= span.queries:
        return plain(graph, span, like, bias)
    size = max(SHORT, int(longest) + 1)
    if size * SHARE > span.queries:
        return plain(graph, span, like, bias)
    sides = int(near.back > 0), int(near.forward > 0)
    return Route(local=Blocks(graph, span, size, *sides, pieces(graph, span, size, sides, near.relative)))


def reach(graph: Graph) -> Reach:
    """How far the edges of a graph reach, as far as its kind tells."""
    match graph:
        case Causal():
            return Reach(forward=0, relative=True)
        case Full():
            return Reach(relative=True)
        case Window():
            return Reach(graph.size - 1, graph.size - 1, relative=True)
        case Segments():
            longest = _longest(graph.ids)
            return Reach(longest - 1, longest - 1)
        case Combined():
            return _combined(graph, reach(graph.left), reach(graph.right))
    return Reach()


def _combined(graph: Combined, a: Reach, b: Reach) -> Reach:
    bound: Callable[[float, float], float] = min if graph.combine is operator.and_ else max
    return Reach(bound(a.back, b.back), bound(a.forward, b.forward), a.relative and b.relative)


def _longest(ids: Tensor) -> int:
    """Places from the first to the last token of a segment, at most: ids int64 (B, T)."""
    rows = torch.arange(len(ids), device=ids.device).unsqueeze(1) * (ids.max() - ids.min() + 1)  # (B, 1)
    _, segment = (ids + rows).unique(return_inverse=True)  # (B, T): a number for each segment of each row
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids).flatten()  # (B T,)
    ends = [
        torch.zeros(int(segment.max()) + 1, dtype=torch.int64).scatter_reduce(
            0, segment.flatten(), places, how, include_self=False
        )
        for how in ("amin", "amax")
    ]
    return int((ends[1] - ends[0]).max()) + 1


def pieces(graph: Graph, span: Span, size: int, sides: tuple[int, int], relative: bool) -> tuple[Piece, ...]:
    """All blocks; those whose keys all exist share one mask if edges depend on differences alone."""
    count = -(-span.queries // size)
    if not relative:
        return (Piece(0, count, _route(graph, span, size, sides, 0, count)),)
    start, stop = sides[0], span.queries // size - sides[1]
    shared = Piece(start, stop, _route(graph, span, size, sides, start, start + 1))
    outer = [Piece(n, n + 1, _route(graph, span, size, sides, n, n + 1)) for n in (*range(start), *range(stop, count))]
    return tuple(sorted([shared, *outer], key=lambda piece: piece.first))


def _route(graph: Graph, span: Span, size: int, sides: tuple[int, int], first: int, last: int) -> Route:
    """Among the queries of some blocks and their keys, of which those outside of the sequence have no edges."""
    at = torch.arange(first * size, last * size, size).view(-1, 1, 1)  # (n', 1, 1)
    q = at + torch.arange(size).view(-1, 1)  # (n', S, 1)
    k = at + torch.arange(-sides[0] * size, (1 + sides[1]) * size)  # (n', 1, K)
    rows = 1 if graph.shared else span.batch
    end = span.queries - 1
    edges = graph.edges(torch.arange(rows).view(-1, 1, 1, 1), q.clamp(max=end), k.clamp(0, end))  # (B or 1, n', S, K)
    edges = edges & (k >= 0) & (k <= end) | (q == k) & (q > end)
    return masked_route(edges.expand(rows, *edges.shape[-3:]).flatten(0, 1).unsqueeze(1), None)
