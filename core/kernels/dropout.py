"""Dropout by 16 random bits for each number: PyTorch's own draws 32 and more for each, one after the other."""

from typing import Protocol

import torch
from torch import Tensor


class Plain(Protocol):
    """The operation without a kernel."""

    def __call__(self, x: Tensor, p: float) -> Tensor: ...


def kernel(plain: Plain, x: Tensor, p: float) -> Tensor:
    """For a CPU. The probability is rounded to a multiple of 2^-16; other numbers are dropped than by PyTorch's own."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return plain(x, p)
    bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= round(p * 2**16) - 2**15
    return x * kept.to(x.dtype).mul_(1 / (1 - p))
