"""Attention block by block is attention along the dense mask, and is taken where it pays alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.attention import attend, explicit_attend, record_attention
from core.config import TransformerConfig
from core.graph import Graph, Route, Span, causal, full, padding, prefix, route, segments, window
from core.kernels import find_route
from core.positions import index
from core.switch import SETTING, without_kernels
from core.transformer import Transformer
from core.transformer import find_route as chosen

pytestmark = pytest.mark.skipif(SETTING == "off", reason="without kernels there are no blocks")

ROWS = 2


def packed(tokens: int, longest: int, generator: torch.Generator) -> Graph:
    """Segments of one to `longest` tokens."""
    sizes = torch.randint(1, longest + 1, (ROWS, tokens), generator=generator)
    ids = [torch.arange(tokens).repeat_interleave(row)[:tokens] for row in sizes]
    return segments(torch.stack(ids))


NEAR: dict[str, Callable[[int, int, torch.Generator], Graph]] = {
    "window": lambda tokens, size, _: causal() & window(size),
    "both sides": lambda tokens, size, _: window(size),
    "packed": lambda tokens, size, g: causal() & packed(tokens, size, g),
    "packed, both sides": packed,
    "packed, window": lambda tokens, size, g: packed(tokens, 3 * size, g) & (causal() & window(size)),
    "padding": lambda tokens, size, _: window(size) & padding(torch.tensor([tokens, tokens // 3])),
    "two": lambda tokens, size, _: causal() & window(size) | window(max(1, size // 2)),
}


def heads(tokens: int, generator: torch.Generator) -> list[Tensor]:
    shapes = (ROWS, 4, tokens, 8), (ROWS, 2, tokens, 8), (ROWS, 2, tokens, 8)
    return [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]


def taken(graph: Graph, tokens: int, start: int = 0) -> Route:
    return chosen(graph, Span(ROWS, tokens, start + tokens, start), torch.zeros(1))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(NEAR)), st.integers(1, 20), st.integers(100, 300), st.integers(0, 99))
def test_blocks_have_the_values_and_gradients_of_the_dense_mask(name, size, tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    graph, given_heads = NEAR[name](tokens, size, generator), heads(tokens, generator)
    before, find_route.FROM = find_route.FROM, 1
    find_route.SHORT, short = 4, find_route.SHORT
    try:
        way = taken(graph, tokens)
    finally:
        find_route.FROM, find_route.SHORT = before, short
    if way.local is None:  # a segment may be long
        assert "packed" in name
        return
    dense = route(graph, Span(ROWS, tokens, tokens), torch.device("cpu"))
    outputs = [attend(*given_heads, one) for one in (way, dense)]
    torch.testing.assert_close(*outputs, atol=1e-9, rtol=0)
    pay = torch.randn(outputs[0].shape, generator=generator, dtype=torch.float64)
    for one, other in zip(*(torch.autograd.grad(y, given_heads, pay) for y in outputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)
    torch.testing.assert_close(explicit_attend(*given_heads, way)[0], outputs[1])


def test_in_float32_and_at_real_lengths_they_agree_to_a_millionth():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (x.detach().float() for x in heads(1030, generator))
    graph = causal() & window(130)
    way = taken(graph, 1030)
    assert way.local is not None
    with without_kernels():
        dense = taken(graph, 1030)
    assert dense.local is None
    torch.testing.assert_close(attend(q, k, v, way), attend(q, k, v, dense), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ["causal", "full", "prefix", "short", "long window", "long segments"])
def test_where_blocks_do_not_pay_there_are_none(name):
    graph, tokens = {
        "causal": (causal(), 2000),
        "full": (full(), 2000),
        "prefix": (prefix(torch.tensor([3, 9])), 2000),
        "short": (causal() & window(8), find_route.FROM - 1),
        "long window": (causal() & window(300), 1000),
        "long segments": (causal() & segments(torch.zeros(ROWS, 1000, dtype=torch.int64)), 1000),
    }[name]
    assert taken(graph, tokens).local is None


def test_nor_with_a_bias_nor_behind_a_cache():
    graph, tokens = causal() & window(8), 600
    assert taken(graph, tokens).local is not None
    assert taken(graph, tokens, start=3).local is None
    assert chosen(graph, Span(1, tokens, tokens), torch.zeros(1), torch.zeros(1, tokens, tokens)).local is None


def test_a_compiler_and_a_plan_get_the_dense_mask(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert taken(causal() & window(8), 600).local is None


def test_dropout_never_opens_an_edge():
    q, k, v = (x.detach().float() for x in heads(600, torch.Generator().manual_seed(0)))
    way = taken(causal() & window(40), 600)
    seen = torch.autograd.grad(attend(q, k, v.requires_grad_(), way, 0.5)[:, :, 300].sum(), v)[0].any(-1).any(1)
    assert seen[:, 261:301].any()
    assert not seen[:, :261].any()
    assert not seen[:, 301:].any()


@torch.no_grad()
def test_a_stack_with_windows_is_the_same_with_a_cache_and_while_it_is_recorded():
    config = TransformerConfig(dim=16, depth=2, n_heads=2, window=40)
    core, tokens = Transformer(config, extent=(600,)).eval(), 560
    x = torch.randn(1, tokens, 16)
    given = x, index(tokens), causal()
    whole = core(*given)
    with without_kernels():
        torch.testing.assert_close(whole, core(*given), atol=2e-6, rtol=0)
    with record_attention(core) as maps:
        torch.testing.assert_close(whole, core(*given), atol=2e-6, rtol=0)
    assert maps["blocks.0.attention.branch"].shape == (1, 2, tokens, tokens)
    cache = core.new_state(1, 600)
    parts = [core(x[:, :550], index(550), causal(), cache=cache)]
    parts.append(core(x[:, 550:], index(10, 550), causal(), cache=cache))
    torch.testing.assert_close(whole, torch.cat(parts, dim=1), atol=2e-6, rtol=0)
