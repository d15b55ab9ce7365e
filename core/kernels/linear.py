"""A linear map, by the fastest float32 product that the processor has.

PyTorch multiplies float32 matrices on a CPU through MKL, which on AMD processors runs at less than half of what
oneDNN reaches (measured on an EPYC 9005 core: 92 against 207 GFLOP/s, same rounding errors; docs/lab-notes.md). Both
are in every build of PyTorch for x86; this module takes oneDNN's there, and PyTorch's own choice everywhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

SMALL = 16
"""Rows below which a product is bound by reading the weights, and neither library is ahead."""


class Linear(nn.Linear):
    """x W^T + b over the last axis, as `torch.nn.Linear`; the same weights, names and initialisation."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., I), weight (O, I), bias (O,) or None -> (..., O)."""
    if not prefers_onednn(x, weight):
        return F.linear(x, weight, bias)
    if not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
        return _product(x, weight, bias)
    y = _opaque_product(x, weight) if torch.compiler.is_compiling() else _Product.apply(x, weight)
    return y if bias is None else y + bias


def prefers_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether this product is one that MKL would be slow at: float32, of some size, on an AMD CPU.

    Never while a model is exported: what leaves this machine knows PyTorch's own operators only.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= SMALL * x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_exporting()
        and MKL_IS_SLOW
    )


def mkl_is_slow() -> bool:
    """An AMD processor, and a PyTorch with both libraries."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            processor = file.read(4096)
    except OSError:
        processor = os.environ.get("PROCESSOR_IDENTIFIER", "")
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return both and "AuthenticAMD" in processor and hasattr(torch.ops.mkldnn, "_linear_pointwise")


MKL_IS_SLOW = mkl_is_slow()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., I), weight (O, I), bias (O,) or None -> (..., O)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _gradients(
    product: Callable[[Tensor, Tensor], Tensor], ctx: FunctionCtx, grad: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Of _product, by products of the same kind: G W for x, G^T x for the weight, as far as they are asked for."""
    x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
    for_x, for_weight = ctx.needs_input_grad  # type: ignore[attr-defined]
    rows, seen = grad.flatten(0, -2), x.flatten(0, -2)  # (N, O), (N, I)
    return product(grad, weight.t()) if for_x else None, product(rows.t(), seen.t()) if for_weight else None


class _Product(torch.autograd.Function):
    """_product with its gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return _gradients(_product, ctx, grad)


@torch.library.custom_op("triptych::product", mutates_args=())
def _opaque_product(x: Tensor, weight: Tensor) -> Tensor:
    """The same as one operator that a compiler leaves as it is."""
    return _product(x, weight)


@_opaque_product.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _remember(ctx: FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


_opaque_product.register_autograd(partial(_gradients, _opaque_product), setup_context=_remember)
