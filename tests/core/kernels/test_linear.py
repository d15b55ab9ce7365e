"""The linear map is torch's, whichever library multiplies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from core.kernels import linear as module
from core.kernels.linear import Linear, linear

SHAPES = [(2, 9, 24, 40), (40, 24, 8), (1, 3, 8, 8), (64, 8, 16)]


@pytest.fixture(params=[True, False], ids=["onednn", "as torch"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this build of PyTorch has no oneDNN")
    monkeypatch.setattr(module, "MKL_IS_SLOW", request.param)
    return bool(request.param)


def outcome(f: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The result, and the gradient of every input for one random gradient of the result."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    y = f(*leaves)
    y.backward(torch.linspace(-1, 1, y.numel()).view(y.shape))
    return [y.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_it_is_torchs_linear_map_with_its_gradients(library: bool, shape: tuple[int, ...], with_bias: bool) -> None:
    *rows, inputs, outputs = shape
    given = [torch.randn(*rows, inputs), torch.randn(outputs, inputs)] + [torch.randn(outputs)] * with_bias
    for ours, theirs in zip(outcome(linear, *given), outcome(F.linear, *given), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("with_bias", [True, False])
def test_it_is_the_same_when_nothing_is_to_be_learnt(library: bool, with_bias: bool) -> None:
    given = [torch.randn(40, 24), torch.randn(8, 24)] + [torch.randn(8)] * with_bias
    expected = linear(*given)
    for apart in (torch.no_grad, torch.inference_mode):
        with apart():
            torch.testing.assert_close(linear(*given), expected, atol=1e-6, rtol=1e-6)


def test_what_is_not_contiguous_is_taken_as_it_lies(library: bool) -> None:
    x, weight = torch.randn(24, 40).t(), torch.randn(24, 8).t()  # (40, 24), (8, 24)
    for ours, theirs in zip(outcome(linear, x, weight), outcome(F.linear, x, weight), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_other_types_and_autocast_go_as_torch_has_them(library: bool) -> None:
    layer, x = Linear(24, 8), torch.randn(40, 24)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64


def test_a_frozen_weight_gets_no_gradient(library: bool) -> None:
    layer = Linear(24, 8)
    layer.weight.requires_grad_(False)
    x = torch.randn(40, 24, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


def test_it_compiles_to_the_same(library: bool) -> None:
    given = [torch.randn(40, 24), torch.randn(8, 24), torch.randn(8)]
    compiled = torch.compile(linear, backend="aot_eager", fullgraph=True)
    for ours, theirs in zip(outcome(compiled, *given), outcome(F.linear, *given), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_an_exported_model_holds_torchs_own_operators(library: bool) -> None:
    layer, x = Linear(24, 8), torch.randn(40, 24)
    exported = torch.export.export(layer, (x,))
    called = {node.target for node in exported.graph.nodes if node.op == "call_function"}
    assert called == {torch.ops.aten.linear.default}
    torch.testing.assert_close(exported.module()(x), layer(x), atol=1e-5, rtol=1e-5)
