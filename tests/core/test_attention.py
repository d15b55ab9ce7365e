"""One definition of attention, and every path, grouping and dtype against it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import flex_attention

from core.attention import (
    Attention,
    CrossAttention,
    LayerContext,
    attend,
    explicit_attend,
    flex_attend,
    record_attention,
)
from core.graph import Graph, Route, Span, block_mask, causal, full, padding, route, window
from core.positions import index
from tests.core.helpers import GRAPHS, KV_HEADS, NOT_CAUSAL, awake, shape, stack, tokens

CPU = torch.device("cpu")
B, H, T, DH = 3, 4, 12, 8
ALL_GRAPHS: dict[str, Callable[[], Graph]] = GRAPHS | NOT_CAUSAL
SPAN = Span(B, T, T)
BIASES: dict[str, Callable[[], Tensor | None]] = {
    "no bias": lambda: None,
    "bias": lambda: torch.randn(H, T, T),
    "bias per row": lambda: torch.randn(B, H, T, T),
}


def by_definition(
    q: Tensor, k: Tensor, v: Tensor, edges: Tensor, bias: Tensor | None, scale: float = 1 / math.sqrt(DH)
) -> Tensor:
    """Vaswani 2017, eq. 1, query by query, over the keys it attends to and no other."""
    y = torch.zeros_like(q)
    bias = torch.zeros(1, H, *edges.shape[1:]) if bias is None else bias.view(-1, H, *edges.shape[1:])
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        keys, own = edges[b, i], h * k.shape[1] // H  # head h reads key head h // group
        if keys.any():
            scores = scale * (k[b, own, keys] @ q[b, h, i]) + bias[b % len(bias), h, i, keys]
            y[b, h, i] = scores.softmax(0) @ v[b, own, keys]
    return y


def heads(n_kv_heads: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """q (B, H, T, DH) and k, v (B, kv_heads, T, DH)."""
    return torch.randn(B, H, T, DH).to(dtype), *torch.randn(2, B, n_kv_heads, T, DH).to(dtype)


def blocks(graph: Graph, span: Span = SPAN, bias: Tensor | None = None) -> Route:
    """The route taken on a GPU."""
    bias = bias.unsqueeze(0) if bias is not None and bias.dim() == 3 else bias
    return Route(bias=bias, blocks=block_mask(graph, span, CPU))


def explicit(q: Tensor, k: Tensor, v: Tensor, way: Route, scale: float | None = None) -> Tensor:
    return explicit_attend(q, k, v, way, scale=scale)[0]


PATHS: dict[str, Callable[..., Tensor]] = {  # (q, k, v, graph, bias, scale)
    "fused": lambda q, k, v, graph, bias, *scale: attend(q, k, v, route(graph, SPAN, CPU, bias), 0.0, *scale),
    "explicit": lambda q, k, v, graph, bias, *scale: explicit(q, k, v, route(graph, SPAN, CPU, bias), *scale),
    "flex": lambda q, k, v, graph, bias, *scale: flex_attend(q, k, v, blocks(graph, bias=bias), *scale),
    "explicit, blocks": lambda q, k, v, graph, bias, *scale: explicit(q, k, v, blocks(graph, bias=bias), *scale),
}
DIFFERENTIABLE = ["fused", "explicit", "explicit, blocks"]  # FlexAttention's gradients exist on a GPU only


@pytest.fixture(autouse=True)
def flex_attention_as_plain_python(monkeypatch):
    """Off a GPU FlexAttention is traced anew for each graph before it runs, which only costs time."""
    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True, raising=False)


@pytest.mark.parametrize("n_kv_heads", KV_HEADS.values(), ids=KV_HEADS)
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("graph", ALL_GRAPHS)
def test_every_path_is_the_definition(graph, bias, n_kv_heads):
    (q, k, v), extra = heads(n_kv_heads), BIASES[bias]()
    edges = ALL_GRAPHS[graph]().mask(B, T, T).expand(B, -1, -1)
    expected = by_definition(q, k, v, edges, extra)
    for path, run in PATHS.items():
        got = run(q, k, v, ALL_GRAPHS[graph](), extra)
        torch.testing.assert_close(got, expected, msg=lambda m, path=path: f"{path}: {m}")


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("graph", ["full", "causal", "left padding"])
def test_every_path_takes_another_scale(graph, scale):
    (q, k, v), extra = heads(n_kv_heads=2), torch.randn(H, T, T)
    edges = ALL_GRAPHS[graph]().mask(B, T, T).expand(B, -1, -1)
    for bias in (None, extra):
        expected = by_definition(q, k, v, edges, bias, scale)
        for path, run in PATHS.items():
            got = run(q, k, v, ALL_GRAPHS[graph](), bias, scale)
            torch.testing.assert_close(got, expected, msg=lambda m, path=path: f"{path}: {m}")


@pytest.mark.parametrize("path", DIFFERENTIABLE)
@pytest.mark.parametrize("graph", ["window", "left padding", "right padding"])
def test_every_path_has_the_gradients_of_the_definition(graph, path):
    given = [x.requires_grad_() for x in (*heads(n_kv_heads=2), torch.randn(H, T, T))]
    edges = ALL_GRAPHS[graph]().mask(B, T, T).expand(B, -1, -1)
    pay = torch.randn(B, H, T, DH)
    expected = torch.autograd.grad(by_definition(*given[:3], edges, given[3]), given, pay)
    got = torch.autograd.grad(PATHS[path](*given[:3], ALL_GRAPHS[graph](), given[3]), given, pay)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", BIASES)
def test_a_query_that_attends_to_nothing_gets_exact_zeros_and_finite_gradients(path, dtype, bias):
    given, extra = heads(2, dtype=dtype), BIASES[bias]()
    lengths = torch.tensor([0, 5, T])
    graph = padding(lengths, "left", T) & causal()
    for x in given if path in DIFFERENTIABLE else ():
        x.requires_grad_()
    y = PATHS[path](*given, graph, extra)
    assert y.dtype == dtype
    assert y.isfinite().all()
    hidden = index(T).squeeze(-1) < T - lengths.unsqueeze(-1)  # (B, T)
    assert hidden.sum() == T + T - 5
    assert not y.transpose(1, 2)[hidden].any()
    assert y.transpose(1, 2)[~hidden].any(-1).all()
    for gradient in torch.autograd.grad(y.float().square().sum(), given) if path in DIFFERENTIABLE else ():
        assert gradient.isfinite().all()
        assert not gradient[0].any()  # the first row has no edges


def test_flex_attention_across_blocks_is_the_dense_mask():
    span = Span(2, 150, 280, 130)
    q, k, v = torch.randn(2, 4, 150, 8), torch.randn(2, 2, 280, 8), torch.randn(2, 2, 280, 8)
    bias = torch.randn(4, 150, 280)
    for graph in (causal() & window(9), causal() & padding(torch.tensor([20, 200])) & window(50)):
        dense = attend(q, k, v, route(graph, span, CPU, bias))
        torch.testing.assert_close(attend(q, k, v, blocks(graph, span, bias)), dense)
    assert not dense[0, :, 60:].any()  # row 0: a window beyond the 20 real tokens has no edges


@pytest.mark.gpu
@pytest.mark.parametrize("n_kv_heads", KV_HEADS.values(), ids=KV_HEADS)
def test_on_a_gpu_flex_attention_has_the_values_and_gradients_of_the_dense_mask(n_kv_heads):
    cuda = torch.device("cuda")
    shapes = (2, 4, 200, 16), (2, n_kv_heads, 200, 16), (2, n_kv_heads, 200, 16), (4, 200, 200)
    given = [torch.randn(s, device=cuda, requires_grad=True) for s in shapes]
    graph = causal() & window(9) & padding(torch.tensor([150, 200], device=cuda))
    way = route(graph, Span(2, 200, 200), cuda, given[3])
    assert way.blocks is not None
    outputs = [attend(*given[:3], path) for path in (way, way.dense())]
    gradients = [torch.autograd.grad(y.square().sum(), given) for y in outputs]
    torch.testing.assert_close(*outputs, atol=5e-3, rtol=0)  # TF32
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=2e-2, rtol=0)


@pytest.mark.parametrize("way", ["pure", "dense", "blocks"])
def test_dropout_never_opens_an_edge(way):
    """What is dropped is a weight, on every path; the mask stays."""
    graph = causal() if way == "pure" else causal() & window(4)
    path = blocks(graph) if way == "blocks" else route(graph, SPAN, CPU)
    q, k, v = heads(n_kv_heads=4)
    reach = torch.autograd.grad(attend(q, k, v.requires_grad_(), path, 0.5)[:, :, 3].sum(), v)[0]
    assert reach[:, :, :4].any()
    assert not reach[:, :, 4:].any()


def test_dropout_keeps_the_mean_and_the_reported_weights():
    torch.manual_seed(0)
    q, k, v = heads(4)
    way = route(causal(), SPAN, CPU)
    exact, weights = explicit_attend(q, k, v, way)
    draws = [(attend(q, k, v, way, 0.3), *explicit_attend(q, k, v, way, 0.3)) for _ in range(2000)]
    fused, stepwise, reported = (torch.stack(parts) for parts in zip(*draws, strict=True))
    for sample in (fused, stepwise):
        assert not torch.equal(sample[0], sample[1])
        error = (sample.mean(0) - exact).abs() / (sample.std(0) / 2000**0.5 + 1e-6)
        assert error.max() < 5.5  # standard errors, 1152 numbers
    assert torch.equal(reported, weights.expand_as(reported))


@pytest.mark.parametrize("length", [T, 700])
@pytest.mark.parametrize("graph", [causal(), causal() & window(4), full()])
def test_half_precision_is_near_float32_at_every_length(graph, length):
    """Short sequences take the explicit path on a CPU, long ones the fused."""
    q, k, v = torch.randn(1, 4, length, DH), torch.randn(1, 2, length, DH), torch.randn(1, 2, length, DH)
    bias = torch.randn(4, length, length)
    for extra in (None, bias):
        way = route(graph, Span(1, length, length), CPU, extra)
        rounded = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), way)
        torch.testing.assert_close(rounded.float(), attend(q, k, v, way), atol=0.06, rtol=0)


# The modules


def test_the_scale_is_that_of_a_head_whatever_the_width():
    layer = awake(Attention(shape("none", n_heads=4, head_dim=6)))
    x = tokens(2, 7)
    q, k, v = layer.qkv(x).split(24, dim=-1)  # 3 x (2, 7, 4 x 6)
    q, k, v = (t.view(2, 7, 4, 6) for t in (q, k, v))
    weights = (torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(6)).softmax(-1)
    expected = layer.out(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))
    torch.testing.assert_close(layer(x, LayerContext()), expected)


@pytest.mark.parametrize("kind", [Attention, CrossAttention])
def test_attention_without_a_scale_is_that_of_queries_divided_by_it(kind):
    plain, unscaled = awake(kind(shape("none"))), kind(shape("none", attention_scale="none"))
    unscaled.load_state_dict(plain.state_dict())
    maps = unscaled.qkv if kind is Attention else unscaled.q
    with torch.no_grad():
        maps.weight[:32].div_(math.sqrt(8))
        maps.bias[:32].div_(math.sqrt(8))
    x, context = tokens(2, 7), LayerContext(memory=tokens(2, 5, seed=9))
    expected = plain(x, context)
    torch.testing.assert_close(unscaled(x, context), expected)
    with record_attention(unscaled) as maps:
        torch.testing.assert_close(unscaled(x, context), expected)
    assert maps[""].shape == (2, 4, 7, 7 if kind is Attention else 5)


@pytest.mark.parametrize("kind", [Attention, CrossAttention])
@pytest.mark.parametrize("n_kv_heads", [1, 2])
def test_grouped_heads_are_multi_head_attention_with_shared_keys(kind, n_kv_heads):
    grouped, wide = awake(kind(shape("none", n_kv_heads=n_kv_heads))), kind(shape("none"))
    state = grouped.state_dict()
    for name in (n for n in state if "kv" in n):
        parts = list(state[name].split(getattr(grouped, name.split(".")[0]).sizes))
        for i in (-2, -1):  # keys and values: each head's rows once for every query head that reads them
            parts[i] = parts[i].unflatten(0, (n_kv_heads, 8)).repeat_interleave(4 // n_kv_heads, 0).flatten(0, 1)
        state[name] = torch.cat(parts)
    wide.load_state_dict(state)
    x, memory = tokens(2, 7), tokens(2, 5, seed=9)
    context = LayerContext(memory=memory)
    torch.testing.assert_close(grouped(x, context), wide(x, context))


def test_weights_are_those_of_torch():
    ours = awake(Attention(shape("none")))
    theirs = nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.in_proj_weight.data.copy_(ours.qkv.weight)
    theirs.in_proj_bias.data.copy_(ours.qkv.bias)
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x, graph = tokens(B, T), causal() & window(3)
    with record_attention(ours) as maps:
        y = ours(x, LayerContext(route(graph, SPAN, CPU)))
    hidden = ~graph.mask(1, T, T)[0]
    expected, weights = theirs(x, x, x, attn_mask=hidden, average_attn_weights=False)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(maps[""], weights)


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm", "rms"])
def test_normed_queries_and_keys_do_not_depend_on_the_size_of_their_maps(norm):
    config, x, memory = shape("rotary", qk_norm=norm, norm_eps=1e-12), tokens(2, 7), tokens(2, 5, seed=9)
    layer, cross = awake(Attention(config)), awake(CrossAttention(config))
    context = LayerContext(memory=memory)
    for module, maps in ((layer, layer.qkv), (cross, cross.kv)):
        before, values = module(x, context), len(maps.weight) - 32
        for p in maps.parameters():
            p.data[:values] *= 10
        torch.testing.assert_close(module(x, context), before)
        for p in maps.parameters():
            p.data[values:] *= 10
        assert not torch.allclose(module(x, context), before)


@pytest.mark.parametrize("bias", ["all", "qkv", "none"])
def test_bias_is_where_the_configuration_says(bias):
    layer, cross = Attention(shape(bias=bias)), CrossAttention(shape(bias=bias))
    for linear in (layer.qkv, cross.q, cross.kv):
        assert (linear.bias is not None) == (bias != "none")
    for linear in (layer.out, cross.out):
        assert (linear.bias is not None) == (bias == "all")


# Maps


@pytest.mark.parametrize("position", ["rotary", "alibi", "t5"])
@pytest.mark.parametrize("graph", ALL_GRAPHS)
def test_recorded_maps_add_up_to_one_over_the_edges(graph, position):
    model, x, places = stack(shape(position, n_kv_heads=2)), tokens(B, T), index(T)
    edges = ALL_GRAPHS[graph]().mask(B, T, T).expand(B, -1, -1)
    fused = model(x, places, ALL_GRAPHS[graph]())
    with record_attention(model) as maps:
        explicit = model(x, places, ALL_GRAPHS[graph]())
    torch.testing.assert_close(explicit, fused)
    assert len(maps) == 2
    for weights in maps.values():
        assert weights.shape == (B, H, T, T)
        assert not weights.transpose(0, 1)[:, ~edges].any()
        torch.testing.assert_close(weights.sum(-1), edges.any(-1).float().unsqueeze(1).expand(B, H, T))


def test_maps_carry_the_names_of_their_layers_and_cross_attention_has_its_own():
    model = stack(shape(), role="cross")
    with record_attention(model) as maps:
        model(tokens(1, 4), index(4), causal(), memory=tokens(1, 6))
    assert {name.split(".")[:3][-1] for name in maps} == {"attention", "cross_attention"}
    assert set(maps) <= {name for name, _ in model.named_modules()}
    assert sorted(weights.shape for weights in maps.values()) == [(1, 4, 4, 4)] * 2 + [(1, 4, 4, 6)] * 2


def test_recording_ends_with_the_context_even_after_an_error():
    model, x = stack(shape()), tokens(1, 5)
    with pytest.raises(RuntimeError, match="on purpose"), record_attention(model) as maps:
        raise RuntimeError("on purpose")
    model(x, index(5), causal())
    assert maps == {}


def test_contexts_may_be_nested():
    model, x = stack(shape()), tokens(1, 5)
    with record_attention(model) as outer:
        with record_attention(model) as inner:
            model(x, index(5), causal())
        assert len(inner) == 2
        inner.clear()
        model(x, index(5), full())
    assert len(outer) == 2
    assert inner == {}


def test_a_deep_copy_runs_its_own_layers():
    model, x = stack(shape()), tokens(1, 5)
    before = model(x, index(5), causal())
    with record_attention(model) as maps:
        during = copy.deepcopy(model)
    after = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.data.zero_()
    for twin in (during, after):
        torch.testing.assert_close(twin(x, index(5), causal()), before)
    assert maps == {}  # a copy made while recording records nothing
