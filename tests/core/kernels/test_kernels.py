"""Every kernel is its plain operation: values, gradients, types; and may be left out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import core.kernels
from core import switch
from core.positions import Rotary, index
from core.switch import with_kernel
from core.vocabulary import IGNORED, cross_entropy

KERNELS = {path.stem for path in Path(core.kernels.__file__).parent.glob("*.py")} - {"__init__"}


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2).type_as(x)


def angles() -> tuple[Tensor, Tensor]:
    rotation = Rotary(8, 1, 100.0, "interleaved").rotation(index(5))
    return rotation.cos, rotation.sin


PLAIN: dict[str, tuple[Callable[..., Tensor], tuple[object, ...]]] = {
    "unit_rms": (lambda x, eps: F.rms_norm(x, (8,), eps=eps), (1e-5,)),
    "relu2": (lambda x: F.relu(x).square(), ()),
    "rotate_pairs": (rotate, angles()),
}


def kernel_of(name: str) -> Callable[..., Tensor]:
    return import_module(f"core.kernels.{name}").kernel


def with_kernel_off(module: str, name: str) -> Callable[..., Any]:
    """The plain operation of that name."""
    found = getattr(import_module(module), name)
    return found.args[0] if isinstance(found, partial) else found


def plain_path(*arguments: object) -> Tensor:
    raise RuntimeError("the plain operation ran")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("name", PLAIN)
def test_a_kernel_has_the_values_and_gradients_of_its_operation(name, dtype, tolerance):
    plain, more = PLAIN[name]
    x, pay = torch.randn(2, 5, 3, 8).to(dtype).requires_grad_(), torch.randn(2, 5, 3, 8).to(dtype)
    ours, theirs = kernel_of(name)(plain_path, x, *more), plain(x, *more)
    assert ours.dtype == theirs.dtype == dtype
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    gradients = (torch.autograd.grad(y, x, pay)[0] for y in (ours, theirs))
    torch.testing.assert_close(*gradients, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", PLAIN)
def test_a_compiler_gets_the_plain_operation(name, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with pytest.raises(RuntimeError, match="the plain operation ran"):
        kernel_of(name)(plain_path, torch.randn(1, 5, 1, 8), *PLAIN[name][1])


def test_every_kernel_is_compared_with_its_operation():
    """Every path of attention: tests/core/test_attention.py; blocks: test_find_route.py."""
    others = {
        "dropout",
        "explicit_is_faster",
        "find_route",
        "linear_cross_entropy",
        "may_have_no_edges",
        "most_probable",
        "softmax",
    }
    assert set(PLAIN) | others == KERNELS


def vocabulary_inputs(rows: int, width: int = 900) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(rows)
    x, weight, bias = (torch.randn(*size, generator=g).requires_grad_() for size in [(rows, 16), (width, 16), (width,)])
    return x, weight, bias, torch.randint(width, (rows,), generator=g)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_cross_entropy_in_chunks_is_that_of_all_rows(smoothing, biased, precision, tolerance):
    """Values and gradients, with targets that do not count, and with one whose probability is 0 in float32."""
    x, weight, bias, targets = vocabulary_inputs(rows=600)
    targets[::7] = IGNORED
    with torch.no_grad():
        weight[targets[1]] = -40 * x[1]
    given = (x, weight, bias) if biased else (x, weight)
    results = []
    for loss in (partial(kernel_of("linear_cross_entropy"), plain_path), linear_cross_entropy_of_all):
        with torch.autocast("cpu", precision, enabled=precision is not torch.float32):
            y = loss(x, weight, bias if biased else None, targets, smoothing)
        results.append((y.detach(), *torch.autograd.grad(3 * y, given)))
    for ours, theirs in zip(*results, strict=True):
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours / scale, theirs / scale, atol=tolerance, rtol=0)
    with torch.no_grad():
        ours = kernel_of("linear_cross_entropy")(linear_cross_entropy_of_all, x, weight, bias, targets, smoothing)
        torch.testing.assert_close(ours, linear_cross_entropy_of_all(x, weight, bias, targets, smoothing))


def linear_cross_entropy_of_all(x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, s: float) -> Tensor:
    return cross_entropy(F.linear(x, weight, bias), targets, s)


def test_few_logits_and_other_types_take_the_plain_cross_entropy():
    few, double = vocabulary_inputs(rows=9), (tensor.double() for tensor in vocabulary_inputs(rows=600)[:3])
    for arguments in (few, (*double, few[3])):
        with pytest.raises(RuntimeError, match="the plain operation ran"):
            kernel_of("linear_cross_entropy")(plain_path, *arguments)


@pytest.mark.parametrize("size", [(1000, 1000), (333, 3001)])
@pytest.mark.parametrize("p", [0.1, 0.37])
def test_dropout_drops_each_number_by_itself(size, p):
    """Every place of the drawn bits, and neighbours independently; gradients as values."""
    torch.manual_seed(3)
    x = torch.ones(size, requires_grad=True)
    y = kernel_of("dropout")(plain_path, x, p)
    kept = y.detach().flatten() != 0
    assert set(y.unique().tolist()) == {0.0, float(torch.tensor(1 / (1 - p)))}
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], y.detach())
    for part in (*(kept[place::4] for place in range(4)), kept[1:] == kept[:-1]):
        expected = 1 - p if len(part) < len(kept) / 2 else p**2 + (1 - p) ** 2
        assert abs(part.double().mean() - expected) < 6 * (0.25 / len(part)) ** 0.5
    torch.manual_seed(3)
    assert torch.equal(kernel_of("dropout")(plain_path, x, p), y)


@pytest.mark.parametrize("width", [7, 1284, 5120])
@pytest.mark.parametrize(("k", "dtype"), [(1, torch.float32), (5, torch.bfloat16), (9, torch.float32)])
def test_the_most_probable_continuations_are_found_by_their_blocks(width, k, dtype, monkeypatch):
    """Those of the last, unfilled block too, and whatever is looked at together; some beams are none at all."""
    generator = torch.Generator().manual_seed(width)
    logits, scores = torch.randn(60, width, generator=generator).to(dtype), torch.randn(20, 3, generator=generator)
    logits[:, 1::3], logits[:9, -1], scores[5:, 2] = -torch.inf, 9.0, -torch.inf
    totals = scores.unsqueeze(-1) + logits.float().log_softmax(-1).unflatten(0, (20, 3))  # (P, K, V)
    expected = totals.flatten(1).sort(descending=True).values[:, :k]
    plain = with_kernel_off("core.decoding.beams", "most_probable")
    monkeypatch.setattr(import_module("core.kernels.most_probable"), "FLOATS", 10 * width)  # three prompts
    for found, beams, ids in (plain(scores, logits, k), kernel_of("most_probable")(plain, scores, logits, k)):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
        rows = torch.arange(20).unsqueeze(-1)
        torch.testing.assert_close(totals[rows, beams, ids], found, atol=1e-6, rtol=1e-6)
        assert all(len(set(zip(*pair, strict=True))) == k for pair in zip(beams.tolist(), ids.tolist(), strict=True))


@pytest.mark.parametrize("width", [1, 6, 15, 16, 40])
def test_the_softmax_of_short_rows_is_that_of_pytorch(width):
    x = 5 * torch.randn(3, 4, 2, width)
    x[..., 1::3] = -torch.inf
    softmax = partial(kernel_of("softmax"), lambda x: x.softmax(-1))
    with torch.no_grad():
        torch.testing.assert_close(softmax(x), x.softmax(-1), atol=1e-6, rtol=1e-6)
        assert torch.equal(softmax(x.double()), x.double().softmax(-1))
    assert torch.equal(softmax(x), x.softmax(-1))  # as in training


def relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


def test_an_operation_without_a_kernel_and_one_with_kernels_switched_off_stay_plain(monkeypatch):
    assert with_kernel(rotate) is rotate
    monkeypatch.setattr(switch, "SETTING", "on")
    assert with_kernel(relu2) is not relu2
    monkeypatch.setattr(switch, "SETTING", "off")
    assert with_kernel(relu2) is relu2
    monkeypatch.setattr(switch, "SETTING", "of")
    with pytest.raises(ValueError, match="TRIPTYCH_KERNELS = 'of' is not one of: on, off"):
        with_kernel(relu2)
