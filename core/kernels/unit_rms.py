"""The root mean square norm with its gradient written out: 5 operations forward and 4 backward instead of 6 and 12."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


class _UnitRMS(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) over the last axis."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, eps: float) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)  # (..., 1)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        y = (x * scale).type_as(x)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        y, scale = ctx.saved_tensors  # type: ignore[attr-defined]
        along = torch.linalg.vecdot(grad, y).unsqueeze(-1).div_(y.shape[-1])  # (..., 1)
        return torch.addcmul(grad, y, along, value=-1).mul_(scale), None


def kernel(plain: Callable[[Tensor, float], Tensor], x: Tensor, eps: float) -> Tensor:
    """For a CPU; elsewhere, and for a compiler, PyTorch has one kernel for all of it."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return plain(x, eps)
    return _UnitRMS.apply(x, eps)
