"""Squared ReLU with its gradient written out: two operations each way instead of two forward and five backward."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F


class _ReLU2(torch.autograd.Function):
    """max(x, 0)^2."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        y = F.relu(x)
        ctx.save_for_backward(y)
        return y * y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return (grad * y).mul_(2)


def kernel(plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Wherever no compiler fuses the plain operations."""
    return plain(x) if torch.compiler.is_compiling() else _ReLU2.apply(x)
