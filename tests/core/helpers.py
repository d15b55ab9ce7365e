"""Small models with awake weights, and the graphs, positions and head groupings to try a property on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn

from core.config import PositionConfig, PositionKind, TransformerConfig
from core.graph import Graph, Route, arbitrary, causal, full, padding, prefix, segments, window
from core.positions import index
from core.transformer import Role, Transformer

POSITIONS: tuple[str, ...] = get_args(PositionKind)
KV_HEADS = {"multi-head": 4, "grouped": 2, "multi-query": 1}
PADS = torch.tensor([0, 3, 1])  # pads at the head of each row of a batch of three


def shape(
    position: str = "rotary", *, direction: str = "past", pairing: str = "interleaved", **changes: Any
) -> TransformerConfig:
    """A tiny core: 2 blocks, 4 heads of 8 channels."""
    own = {"buckets": 8, "max_distance": 16, "direction": direction} if position == "t5" else {"pairing": pairing}
    where = PositionConfig(kind=position, **own)  # type: ignore[arg-type]
    return TransformerConfig(**{"dim": 32, "depth": 2, "n_heads": 4, "position": where} | changes)


M = TypeVar("M", bound=nn.Module)


def awake(module: M, seed: int = 1) -> M:
    """Every parameter drawn anew, so that no weight that starts at zero hides a fault; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        vector = parameter.dim() == 1
        scale = 0.3 if vector else parameter.shape[-1] ** -0.5
        gain = 1.0 if vector and name.endswith("weight") else 0.0
        with torch.no_grad():
            parameter.copy_(gain + scale * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def stack(config: TransformerConfig, extent: tuple[int, ...] = (16,), role: Role = "self") -> Transformer:
    """An awake stack of blocks."""
    return awake(Transformer(config, extent, role))


def tokens(batch: int, length: int, dim: int = 32, seed: int = 2) -> Tensor:
    """Random tokens (B, T, D), the same at each call."""
    return torch.randn(batch, length, dim, generator=torch.Generator().manual_seed(seed))


def padded_coords(length: int, pads: Tensor) -> Tensor:
    """Coordinates (B, T, 1) of rows with pads at the head: real tokens count from 0."""
    return (index(length) - pads.view(-1, 1, 1)).clamp(min=0)


# Graphs of three rows and up to 16 places; all but the first two differ between rows or need a mask.
GRAPHS: dict[str, Callable[[], Graph]] = {
    "causal": causal,
    "window": lambda: causal() & window(3),
    "prefix": lambda: prefix(torch.tensor([1, 4, 2])),
    "segments": lambda: causal() & segments(torch.tensor([[0] * 5 + [1] * 11, [0] * 9 + [1] * 7, [0] * 16])),
    "left padding": lambda: causal() & padding(16 - PADS, "left", width=16),
    "left padding, window": lambda: causal() & window(4) & padding(16 - PADS, "left", width=16),
    "arbitrary": lambda: causal() & arbitrary(torch.rand(16, 16, generator=torch.Generator().manual_seed(3)) < 0.6),
}
NOT_CAUSAL: dict[str, Callable[[], Graph]] = {
    "full": full,
    "both sides": lambda: window(3),
    "right padding": lambda: padding(torch.tensor([5, 9, 2])),
}


def edges_of(route: Route, batch: int, queries: int, keys: int) -> Tensor:
    """The edges of a route, dense: bool (batch, queries, keys)."""
    edges = torch.ones(batch, queries, keys, dtype=torch.bool)
    if route.causal:
        edges = edges.tril()
    if route.mask is not None:
        edges = edges & route.mask[:, 0]
    return edges if route.fully_masked is None else edges & ~route.fully_masked[:, 0]
