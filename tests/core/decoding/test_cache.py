"""Reading a sequence bit by bit through a cache gives what reading it at once gives."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from core.attention import record_attention
from core.decoding.cache import Cache, sources_of
from core.graph import Graph, causal, padding, select, window
from core.positions import index
from core.transformer import Transformer
from tests.core.helpers import GRAPHS, KV_HEADS, PADS, POSITIONS, padded_coords, shape, stack, tokens

B, T = 3, 12
CUTS = [  # where the sequence is cut: a prefill, then single tokens, then chunks
    range(T + 1),
    [0, 5, *range(6, T + 1)],
    [0, T - 1, T],
    [0, 4, 7, 8, T],
    [0, T],
]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def at_of(graph: str) -> Tensor:
    return padded_coords(T, PADS) if "padding" in graph else index(T)


def bit_by_bit(model: Transformer, x: Tensor, coords: Tensor, graph: Graph, cuts, cache: Cache, **more) -> Tensor:
    """What `model` makes of x (B, T, D), read in the pieces between the cuts."""
    parts = [model(x[:, a:b], coords[..., a:b, :], graph, cache=cache, **more) for a, b in pairwise(cuts)]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("n_kv_heads", KV_HEADS.values(), ids=KV_HEADS)
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("position", POSITIONS)
def test_cache_equals_no_cache(position, graph, n_kv_heads):
    model, x, coords = stack(shape(position, n_kv_heads=n_kv_heads)), tokens(B, T), at_of(graph)
    edges = GRAPHS[graph]()
    if graph == "prefix":  # attends ahead within the prefix, which has to be read in one piece
        cuts = [[0, 4, *range(5, T + 1)], [0, 6, 9, T]]
    else:
        cuts = CUTS
    whole = model(x, coords, edges)
    for cut in cuts:
        cache = model.new_state(B, capacity=T + 2)
        got = bit_by_bit(model, x, coords, edges, cut, cache)
        real = edges.mask(B, T, T).any(-1).expand(B, T)
        torch.testing.assert_close(got[real], whole[real], atol=2e-5, rtol=1e-4)
        assert got.isfinite().all()
        assert cache.length == T


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_cache_has_the_dtype_of_its_model(dtype):
    model, x = stack(shape(n_kv_heads=2)).to(dtype), tokens(B, T).to(dtype)
    cache = model.new_state(B, T)
    assert cache.keys.dtype == cache.values.dtype == dtype
    got = bit_by_bit(model, x, index(T), causal(), CUTS[1], cache)
    torch.testing.assert_close(got, model(x, index(T), causal()), atol=0.06 if dtype.itemsize == 2 else 1e-9, rtol=0)


def test_a_float32_cache_serves_a_model_under_autocast():
    model, x = stack(shape(n_kv_heads=2)), tokens(B, T)
    with torch.autocast("cpu", torch.bfloat16):
        got = bit_by_bit(model, x, index(T), causal(), CUTS[1], model.new_state(B, T))
    assert (got.float() - model(x, index(T), causal())).abs().mean() < 0.05


@pytest.mark.parametrize("position", ["rotary", "alibi"])
def test_maps_recorded_with_a_cache_are_rows_of_the_whole_maps(position):
    model, x, edges = stack(shape(position)), tokens(B, T), causal() & window(4)
    with record_attention(model) as whole:
        model(x, index(T), edges)
    cache = model.new_state(B, T)
    model(x[:, :-2], index(T - 2), edges, cache=cache)
    with record_attention(model) as maps:
        model(x[:, -2:], index(2, start=T - 2), edges, cache=cache)
    for name, weights in maps.items():
        torch.testing.assert_close(weights, whole[name][:, :, -2:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("position", POSITIONS)
def test_a_reset_cache_holds_nothing(position):
    """Neither tokens nor whether rows had coordinates of their own."""
    model, x, other = stack(shape(position)), tokens(B, T), tokens(B, T, seed=9)
    padded, plain = ((padded_coords(T, PADS), GRAPHS["left padding"]()), (index(T), causal()))
    for first, second in ((padded, plain), (plain, padded)):
        cache = model.new_state(B, T)
        bit_by_bit(model, x, *first, CUTS[1], cache)
        cache.reset()
        got = bit_by_bit(model, other, *second, CUTS[3], cache)
        assert torch.equal(got, bit_by_bit(model, other, *second, CUTS[3], model.new_state(B, T)))


@pytest.mark.parametrize("rows", [[2, 2, 0], [1, 0, 2], [0, 0, 0]])
@pytest.mark.parametrize("role", ["self", "cross"])
@pytest.mark.parametrize("position", ["rotary", "alibi", "t5"])
def test_reordered_rows_go_on_from_what_their_new_row_has_read(position, role, rows):
    model, x, coords = stack(shape(position, n_kv_heads=2), role=role), tokens(B, T), padded_coords(T, PADS)
    memory = tokens(1, 5, seed=8) if role == "cross" else None  # of all three
    order = torch.tensor(rows)
    cache, read = model.new_state(B, T), 7
    graph, moved = (causal() & padding(T - p, "left", T) for p in (PADS, PADS[order]))
    model(x[:, :read], coords[:, :read], graph, cache=cache, memory=memory)
    cache.reorder(order)
    got = model(x[:, read:], coords[order, read:], moved, cache=cache, memory=memory)
    line = torch.cat((x[order, :read], x[:, read:]), dim=1)
    expected = model(line, coords[order], moved, memory=memory)[:, read:]
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("role", ["self", "cross"])
@pytest.mark.parametrize("position", ["rotary", "alibi"])
def test_rows_that_are_kept_go_on_alone(position, role):
    model, x, rows = stack(shape(position), role=role), tokens(B, T), torch.tensor([2, 0])
    memory, coords = tokens(B, 5, seed=8) if role == "cross" else None, padded_coords(T, PADS)
    cache = model.new_state(B, T)
    whole = model(x, coords, causal() & padding(T - PADS, "left", T), memory=memory)
    model(x[:, :7], coords[:, :7], causal() & padding(T - PADS, "left", T), cache=cache, memory=memory)
    cache.keep(rows)
    own = None if memory is None else memory[rows]
    kept = causal() & padding(T - PADS[rows], "left", T)
    got = model(x[rows, 7:], coords[rows, 7:], kept, cache=cache, memory=own)
    torch.testing.assert_close(got, whole[rows, 7:], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("rows", "sources"),
    [
        ([2, 3], [1]),  # of three sources with two rows each, the rows of one
        ([4, 5, 0, 1], [2, 0]),
        ([1, 0, 5, 5], [0, 2]),
        ([0, 0, 0, 3, 3, 3], [0, 1]),  # more rows of a source than before
        ([0, 2, 3], [0, 1, 1]),  # unequally many: every row its own
        ([0, 1, 2, 3, 4, 5], [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("position", ["rotary", "alibi"])
def test_rows_that_share_a_source_may_leave_or_multiply(position, rows, sources):
    model, x, memory = stack(shape(position), role="cross"), tokens(6, T), tokens(3, 5, seed=8)
    pads, kept = torch.tensor([0, 3, 1, 0, 2, 1]), torch.tensor(rows)
    coords, own = padded_coords(T, pads), memory.repeat_interleave(2, dim=0)
    cache, line = model.new_state(6, T), causal() & padding(T - pads, "left", T)
    whole = model(x, coords, line, memory=own)
    model(x[:, :7], coords[:, :7], line, cache=cache, memory=memory)
    cache.keep(kept)
    assert sources_of(kept, 2).tolist() == sources
    assert cache.capacity == T
    assert cache.memory[0][0].shape[0] == len(sources)
    more = {"cache": cache, "memory": memory[sources]}
    got = model(x[kept, 7:], coords[kept, 7:], select(line, kept), **more)
    torch.testing.assert_close(got, whole[kept, 7:], atol=2e-5, rtol=1e-4)


def test_a_memory_is_read_once():
    model, x, memory = stack(shape(), role="cross"), tokens(B, T), tokens(B, 5, seed=8)
    whole = model(x, index(T), causal(), memory=memory)
    reads: list[Tensor] = []
    for block in model.blocks:
        block.cross_attention.branch.kv.register_forward_hook(lambda module, inputs, output: reads.append(output))
    cache = model.new_state(B, T)
    got = bit_by_bit(model, x, index(T), causal(), CUTS[1], cache, memory=memory)
    torch.testing.assert_close(got, whole, atol=2e-5, rtol=1e-4)
    assert len(reads) == model.config.depth
    cache.reset()
    other = tokens(B, 3, seed=9)  # after a reset another memory counts
    got = bit_by_bit(model, x, index(T), causal(), CUTS[1], cache, memory=other)
    torch.testing.assert_close(got, model(x, index(T), causal(), memory=other), atol=2e-5, rtol=1e-4)


def test_padding_of_a_memory_stays_hidden_with_a_cache():
    model, x, memory = stack(shape(), role="cross"), tokens(B, T), tokens(B, 5, seed=8)
    real = padding(torch.tensor([5, 2, 3]))
    whole = model(x, index(T), causal(), memory=memory, memory_graph=real)
    more = {"memory": memory, "memory_graph": real}
    got = bit_by_bit(model, x, index(T), causal(), CUTS[3], model.new_state(B, T), **more)
    torch.testing.assert_close(got, whole, atol=2e-5, rtol=1e-4)


def test_a_full_cache_refuses_more_and_stays_as_it_was():
    model, x = stack(shape()), tokens(B, T)
    cache = model.new_state(B, capacity=T)
    model(x[:, :10], index(10), causal(), cache=cache)
    with pytest.raises(ValueError, match="cache of 12 places holds 10: no room for 3 more"):
        model(x[:, :3], index(3, start=10), causal(), cache=cache)
    got = model(x[:, 10:], index(2, start=10), causal(), cache=cache)
    torch.testing.assert_close(got, model(x, index(T), causal())[:, 10:], atol=2e-5, rtol=1e-4)


def test_a_pass_that_fails_half_way_counts_for_nothing(monkeypatch):
    model, x = stack(shape("alibi")), tokens(B, T)
    cache = model.new_state(B, T)
    model(x[:, :5], index(5), causal(), cache=cache)
    monkeypatch.setattr(model.blocks[1].feedforward, "forward", _fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        model(x[:, 6:9], index(3, start=6), causal(), cache=cache)
    monkeypatch.undo()
    got = model(x[:, 5:], index(T - 5, start=5), causal(), cache=cache)
    torch.testing.assert_close(got, model(x, index(T), causal())[:, 5:], atol=2e-5, rtol=1e-4)


def _fail(x: Tensor, context: object) -> Tensor:
    raise RuntimeError("on purpose")


def test_memory_is_allocated_once_in_the_size_of_the_key_heads():
    cache = Transformer(shape(n_kv_heads=2, head_dim=6), (16,)).new_state(3, 10)
    assert cache.keys.shape == cache.values.shape == (2, 3, 2, 10, 6)
    assert cache.capacity == 10
    before = cache.keys.data_ptr()
    cache.reorder(torch.tensor([1, 1, 0]))
    cache.reset()
    assert cache.keys.data_ptr() == before
