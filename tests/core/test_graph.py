"""Graphs are sets of edges: every composition equals the same set operations on dense masks."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.graph import (
    Graph,
    Span,
    arbitrary,
    block_mask,
    causal,
    from_place,
    full,
    padding,
    prefix,
    route,
    segments,
    select,
    window,
)
from tests.core.helpers import edges_of

CPU = torch.device("cpu")
ROWS, PLACES = 3, 7
Known = tuple[Graph, Tensor]  # a graph and what its mask has to be, bool (ROWS, PLACES, PLACES)


def by_definition(rule) -> Tensor:
    """The mask of a rule over (row, query, key), asked edge by edge."""
    places = range(PLACES)
    return torch.tensor([[[bool(rule(b, q, k)) for k in places] for q in places] for b in range(ROWS)])


def numbers(low: int, high: int, count: int = ROWS) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=count, max_size=count)


def table(count: int) -> st.SearchStrategy[Tensor]:
    return st.lists(st.booleans(), min_size=count, max_size=count).map(torch.tensor)


def leaves() -> st.SearchStrategy[Known]:
    """Every constructor, with its definition beside it."""
    return st.one_of(
        st.just((full(), by_definition(lambda b, q, k: True))),
        st.just((causal(), by_definition(lambda b, q, k: k <= q))),
        st.integers(1, 9).map(lambda n: (window(n), by_definition(lambda b, q, k: abs(q - k) < n))),
        numbers(0, 9).map(
            lambda n: (padding(torch.tensor(n)), by_definition(lambda b, q, k: k < n[b])),
        ),
        numbers(0, PLACES).map(
            lambda n: (
                padding(torch.tensor(n), "left", PLACES),
                by_definition(lambda b, q, k: k >= PLACES - n[b]),
            )
        ),
        numbers(0, 9).map(
            lambda n: (from_place(torch.tensor(n)), by_definition(lambda b, q, k: k >= n[b])),
        ),
        numbers(0, 9).map(
            lambda n: (prefix(torch.tensor(n)), by_definition(lambda b, q, k: k <= q or k < n[b])),
        ),
        numbers(0, 2, ROWS * PLACES).map(
            lambda n: (
                segments(torch.tensor(n).view(ROWS, PLACES)),
                by_definition(lambda b, q, k: n[b * PLACES + q] == n[b * PLACES + k]),
            )
        ),
        table(PLACES**2).map(lambda t: t.view(PLACES, PLACES)).map(lambda t: (arbitrary(t), t.expand(ROWS, -1, -1))),
        table(ROWS * PLACES**2).map(lambda t: t.view(ROWS, PLACES, PLACES)).map(lambda t: (arbitrary(t), t)),
    )


def combine(parts: tuple[Known, Known, str]) -> Known:
    (left, left_mask), (right, right_mask), sign = parts
    return (left & right, left_mask & right_mask) if sign == "&" else (left | right, left_mask | right_mask)


known_graphs = st.recursive(
    leaves(), lambda inner: st.tuples(inner, inner, st.sampled_from("&|")).map(combine), max_leaves=5
)


def dense(graph: Graph) -> Tensor:
    return graph.mask(ROWS, PLACES, PLACES).expand(ROWS, -1, -1)


@given(known_graphs)
def test_compositions_are_set_operations(known):
    graph, edges = known
    assert torch.equal(dense(graph), edges)


@given(known_graphs, known_graphs, known_graphs)
def test_the_laws_of_sets_hold(one, two, three):
    a, b, c = one[0], two[0], three[0]
    for left, right in (
        ((a & b) & c, a & (b & c)),
        ((a | b) | c, a | (b | c)),
        (a & b, b & a),
        (a | b, b | a),
        (a & (b | c), (a & b) | (a & c)),
        (a | (a & b), a),
    ):
        assert torch.equal(dense(left), dense(right))


@given(known_graphs)
def test_full_is_neutral_for_and_and_absorbs_for_or_without_a_trace(known):
    graph = known[0]
    assert graph & full() is graph
    assert full() & graph is graph
    assert graph | full() is full()
    assert full() | graph is full()
    assert graph & graph is graph
    assert graph | graph is graph


@given(known_graphs, st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=5))
def test_a_graph_of_some_rows_has_their_edges(known, rows):
    graph, edges = known
    chosen = torch.tensor(rows)
    assert torch.equal(select(graph, chosen).mask(len(rows), PLACES, PLACES).expand(len(rows), -1, -1), edges[chosen])


@given(known_graphs)
def test_what_a_graph_says_of_itself_is_true(known):
    graph, edges = known
    if graph.reflexive:
        assert edges.diagonal(dim1=1, dim2=2).all()
    if graph.shared:
        assert graph.mask(ROWS, PLACES, PLACES).shape[0] == 1
        assert torch.equal(edges, edges[:1].expand_as(edges))


@given(known_graphs, st.data())
def test_routes_and_masks_have_the_edges_of_the_graph_from_any_place_on(known, data):
    graph, edges = known
    start = data.draw(st.integers(0, PLACES - 1), label="start")
    queries = data.draw(st.integers(1, PLACES - start), label="queries")
    keys = data.draw(st.integers(1, PLACES), label="keys")
    expected = edges[:, start : start + queries, :keys]
    assert torch.equal(graph.mask(ROWS, queries, keys, start).expand(ROWS, -1, -1), expected)
    way = route(graph, Span(ROWS, queries, keys, start), CPU)
    assert torch.equal(edges_of(way, ROWS, queries, keys), expected)
    if way.mask is not None:  # softmax of an empty row would be NaN
        assert way.mask.any(-1).all()


@pytest.mark.parametrize(
    ("graph", "span", "causal_path"),
    [
        (full(), Span(2, 5, 5), False),
        (full(), Span(2, 3, 5, 2), False),
        (full() & full(), Span(2, 5, 9), False),
        (causal(), Span(2, 5, 5), True),
        (causal() & full(), Span(2, 5, 5), True),
        (causal(), Span(2, 1, 9, 8), False),  # the newest token attends to everything
        (causal(), Span(2, 1, 1), False),
    ],
)
def test_pure_graphs_need_no_mask(graph, span, causal_path):
    way = route(graph, span, CPU)
    assert (way.mask, way.fully_masked, way.bias, way.blocks) == (None, None, None, None)
    assert way.causal == causal_path


@pytest.mark.parametrize("graph", [full(), causal()], ids=["full", "causal"])
def test_pure_graphs_are_right_from_every_place_in_line(graph):
    for start, queries, keys in product(range(4), range(1, 4), range(1, 6)):
        way = route(graph, Span(1, queries, keys, start), CPU)
        assert torch.equal(edges_of(way, 1, queries, keys), graph.mask(1, queries, keys, start))


def test_a_causal_chunk_or_a_causal_graph_with_a_bias_needs_a_mask():
    assert route(causal(), Span(2, 2, 5, 3), CPU).mask is not None
    bias = torch.zeros(4, 5, 5)
    way = route(causal(), Span(2, 5, 5), CPU, bias)
    assert not way.causal
    assert way.mask is not None
    assert way.bias is not None
    assert way.bias.shape == (1, 4, 5, 5)


def test_shared_masks_are_kept_once_for_the_whole_batch():
    way = route(causal() & window(3), Span(64, 5, 5), CPU)
    assert way.mask is not None
    assert way.mask.shape == (1, 1, 5, 5)


def test_padding_on_the_left_stays_right_while_the_line_grows():
    graph = padding(torch.tensor([1, 3]), "left", width=3)
    assert graph.mask(2, 1, 5, start=4)[:, 0].tolist() == [[False, False, True, True, True], [True] * 5]


@pytest.mark.parametrize("start", [0, 140])
def test_block_masks_list_the_blocks_that_hold_an_edge(start):
    batch, queries, keys = 2, 150, 290
    for graph in (
        causal() & window(20),
        padding(torch.tensor([100, 200])),
        prefix(torch.tensor([10, 170])),
    ):
        edges = graph.mask(batch, queries, keys, start)
        blocks = block_mask(graph, Span(batch, queries, keys, start), CPU)
        wide = torch.zeros(len(edges), 256, 384, dtype=torch.bool)
        wide[:, :queries, :keys] = edges
        expected = wide.view(-1, 2, 128, 3, 128).any(-1).any(2)  # (B, 2, 3)
        assert torch.equal(blocks.to_dense()[:, 0].bool(), expected)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: window(0), "size = 0"),
        (lambda: padding(torch.tensor([1]), "left"), "width = None"),
        (lambda: padding(torch.tensor([1]), "top", width=3), "side = 'top' is not one of: right, left"),
        (lambda: padding(torch.tensor([1]), width=3), "width = 3 has no effect on padding on the right"),
        (lambda: arbitrary(torch.ones(2, 2)), r"torch\.float32 with 2 dimensions must be bool"),
        (lambda: arbitrary(torch.ones(2, dtype=torch.bool)), "1 dimensions"),
    ],
)
def test_what_cannot_be_a_graph_is_refused(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()
