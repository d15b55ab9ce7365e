"""Communicate: every token asks (query), offers (key) and passes on (value)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache as memoise
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import TransformerConfig
from core.decoding.cache import Cache
from core.graph import Route
from core.norms import build_qk_norm
from core.positions import Rotation
from core.switch import with_kernel

Attend = Callable[..., Tensor]
"""(q, k, v, route, dropout, scale) -> y, as `attend`."""


class LayerContext(NamedTuple):
    """What all blocks of one forward pass share; every branch takes it beside its tokens."""

    route: Route = Route()
    rotation: Rotation | None = None
    memory: Tensor | None = None  # (S, N, D): what cross-attention attends to; S divides B
    memory_route: Route = Route()
    condition: Tensor | None = None  # (B, 1 or T, D): what modulated branches are modulated by
    cache: Cache | None = None

    def select(self, read: slice) -> LayerContext:
        """The context of some of the tokens, for branches in which tokens do not communicate."""
        if self.condition is None or self.condition.shape[1] == 1:
            return self
        return self._replace(condition=self.condition[:, read])


class StackedLinear(nn.Linear):
    """Several linear maps of one input in one matrix product; `parts` are their names and output widths, in order.

    An optimiser that treats a matrix as a whole (Muon) treats each part by itself, and so do adapters.
    """

    def __init__(self, inputs: int, parts: Mapping[str, int], bias: bool):
        super().__init__(inputs, sum(parts.values()), bias=bias)
        self.parts = dict(parts)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Output widths of the parts."""
        return tuple(self.parts.values())


class Attention(nn.Module):
    """Multi-head attention; grouped-query with fewer key heads (Ainslie 2023), multi-query with one (Shazeer 2019)."""

    def __init__(self, config: TransformerConfig, layer: int = 0):
        super().__init__()
        self.layer, self.scale = layer, 1.0 if config.attention_scale == "none" else None
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.key_heads, config.head_width
        q, kv = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        self.add_projections(config.dim, q, kv, bias=config.bias in ("all", "attention", "qkv"))
        self.q_norm = build_qk_norm(self.n_heads, config)
        self.k_norm = build_qk_norm(self.n_kv_heads, config)
        self.out = nn.Linear(q, config.dim, bias=config.bias in ("all", "attention"))
        self.dropout = config.attention_dropout
        self.attend: Attend = attend

    def add_projections(self, dim: int, q: int, kv: int, bias: bool) -> None:
        """The linear maps to queries, keys and values, of these widths."""
        self.qkv = StackedLinear(dim, {"q": q, "k": kv, "v": kv}, bias)

    def forward(self, x: Tensor, context: LayerContext) -> Tensor:
        """x (B, T, D) -> (B, T, D). With a cache, tokens also attend to those that it holds."""
        n_heads = (self.n_heads, self.n_kv_heads, self.n_kv_heads)
        qkv = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # (B, T, H + 2 Hkv, Dh)
        q, k, v = qkv.split(n_heads, dim=2)
        q, k = self.q_norm(q), self.k_norm(k)
        if context.rotation is not None:
            q, k = context.rotation.rotate(q), context.rotation.rotate(k)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H or Hkv, T, Dh)
        if context.cache is not None:
            k, v = context.cache.append(self.layer, k, v)
        dropout = self.dropout if self.training else 0.0
        y = self.attend(q, k, v, context.route, dropout, self.scale)  # (B, H, T, Dh)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, T, H, Dh) -> (B, T, D)


class CrossAttention(Attention):
    """Attention whose keys and values come from another sequence, a memory, which has positions of its own.

    Successive rows may share a source: of S memories, each serves B / S rows, without being copied.
    """

    def add_projections(self, dim: int, q: int, kv: int, bias: bool) -> None:
        self.q = nn.Linear(dim, q, bias)
        self.kv = StackedLinear(dim, {"k": kv, "v": kv}, bias)

    def forward(self, x: Tensor, context: LayerContext) -> Tensor:
        """x (B, T, D) -> (B, T, D). With a cache, keys and values of the memory are computed once."""
        q = self.q_norm(self.q(x).unflatten(-1, (-1, self.head_dim))).transpose(1, 2)  # (B, H, T, Dh)
        k, v = self.keys_and_values(context)
        shared = q.unflatten(0, (k.shape[0], -1)).transpose(1, 2)  # (S, H, B/S, T, Dh)
        dropout = self.dropout if self.training else 0.0
        y = self.attend(shared.flatten(2, 3), k, v, context.memory_route, dropout, self.scale)  # (S, H, B/S T, Dh)
        y = y.unflatten(2, shared.shape[2:4]).transpose(1, 2).flatten(0, 1)  # (B, H, T, Dh)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, T, H, Dh) -> (B, T, D)

    def keys_and_values(self, context: LayerContext) -> tuple[Tensor, Tensor]:
        """Those of the context's memory, from its cache if that holds them: 2 x (S, Hkv, N, Dh)."""
        assert context.memory is not None
        held = {} if context.cache is None else context.cache.memory
        if self.layer in held:
            return held[self.layer]
        k, v = self.kv(context.memory).unflatten(-1, (-1, self.head_dim)).chunk(2, dim=2)  # 2 x (S, N, Hkv, Dh)
        k, v = self.k_norm(k).transpose(1, 2), v.transpose(1, 2)
        if context.cache is not None:  # read again at every step
            held[self.layer] = k, v = k.contiguous(), v.contiguous()
        return k, v


def attend(q: Tensor, k: Tensor, v: Tensor, route: Route, dropout: float = 0.0, scale: float | None = None) -> Tensor:
    """softmax(scale q k^T + bias) v along the edges of the route (Vaswani 2017, eq. 1), by the fastest path.

    q (B, H, Tq, Dh); k, v (B, Hkv, Tk, Dh) -> (B, H, Tq, Dh). The scale is 1 / sqrt(Dh) unless given. A query that
    attends to nothing gets zeros.
    """
    if route.local is not None:
        return route.local.attend(partial(attend, dropout=dropout, scale=scale), q, k, v)
    if route.blocks is not None and dropout == 0:
        return flex_attend(q, k, v, route, scale)
    if explicit_is_faster(q, k):
        return explicit_attend(q, k, v, route, dropout, scale)[0]
    route = route.dense()  # FlexAttention has no dropout
    mask = route.mask if route.bias is None else additive_mask(route, q, k)
    grouped = q.shape[1] != k.shape[1]
    y = F.scaled_dot_product_attention(q, k, v, mask, dropout, route.causal, scale=scale, enable_gqa=grouped)
    return y if route.fully_masked is None else y.masked_fill(route.fully_masked, 0.0)


def explicit_attend(
    q: Tensor, k: Tensor, v: Tensor, route: Route, dropout: float = 0.0, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """The same, step by step; also returns the weights (B, H, Tq, Tk) before dropout."""
    batch, n_heads = q.shape[:2]
    route, groups = route.dense(), n_heads // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)  # (B, H, Tk, Dh)
    plain = not route.causal and route.mask is None and route.bias is None
    added = None if plain else additive_mask(route, q, k)  # broadcasts to (B, H, Tq, Tk)
    q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)  # (B H, T, Dh)
    alpha = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    nothing = q.new_zeros(1, 1, 1)
    scores = torch.baddbmm(nothing, q, k.transpose(1, 2), beta=0, alpha=alpha)  # (B H, Tq, Tk)
    if added is not None:
        scores = scores.unflatten(0, (batch, n_heads)).add_(added).flatten(0, 1)
    weights = softmax(scores).unflatten(0, (batch, n_heads))  # (B, H, Tq, Tk)
    if route.fully_masked is not None:
        weights = weights.masked_fill(route.fully_masked, 0.0)
    y = torch.bmm(F.dropout(weights, dropout).flatten(0, 1), v)  # (B H, Tq, Dh)
    return y.unflatten(0, (batch, n_heads)), weights


@with_kernel
def softmax(scores: Tensor) -> Tensor:
    """exp(scores) over its sum along the last axis: same shape and dtype."""
    return scores.softmax(-1)


@with_kernel
def explicit_is_faster(q: Tensor, k: Tensor) -> bool:
    """Whether to attend step by step in place of PyTorch's fused kernel."""
    return False


def additive_mask(route: Route, q: Tensor, k: Tensor) -> Tensor:
    """Mask and bias as one tensor to add to the scores, -inf where there is no edge: broadcasts to (B, H, Tq, Tk)."""
    added = q.new_zeros(1, 1, 1, 1) if route.bias is None else route.bias.type_as(q)
    mask = route.mask
    if route.causal:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    return added if mask is None else torch.where(mask, added, -math.inf)


def flex_attend(q: Tensor, k: Tensor, v: Tensor, route: Route, scale: float | None = None) -> Tensor:
    """FlexAttention over a block-sparse mask: skips the blocks in which there is no edge."""
    bias = route.bias
    several = int(bias is not None and bias.shape[0] > 1)  # else all rows share one

    def add_bias(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        assert bias is not None
        return score + bias[b * several, h, i, j]

    score_mod = None if bias is None else add_bias
    grouped = q.shape[1] != k.shape[1]
    return _flex_attention(q.is_cuda)(q, k, v, score_mod, route.blocks, scale, grouped)


@memoise
def _flex_attention(compiled: bool):  # type: ignore[no-untyped-def]
    """FlexAttention is fast only when compiled; uncompiled it is the same mathematics, dense."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention


class _Recorder:
    """Stands in for `attend`: takes the explicit path and keeps the weights. A deep copy records nothing."""

    def __init__(self, maps: dict[str, Tensor], name: str):
        self.maps, self.name = maps, name

    def __call__(self, *arguments: Any) -> Tensor:
        y, self.maps[self.name] = explicit_attend(*arguments)
        return y

    def __deepcopy__(self, memo: dict[int, object]) -> Attend:
        return attend


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Take the explicit path while open, and collect every layer's weights (B, H, Tq, Tk) by module name.

        with record_attention(model) as maps:
            model(ids)
        maps["core.blocks.0.attention.branch"]

    A later forward pass overwrites what an earlier one left. Not for compiled models.
    """
    maps: dict[str, Tensor] = {}
    layers = {n: m for n, m in model.named_modules() if isinstance(m, Attention)}
    before = {name: layer.attend for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.attend = _Recorder(maps, name)
        yield maps
    finally:
        for name, layer in layers.items():
            layer.attend = before[name]
