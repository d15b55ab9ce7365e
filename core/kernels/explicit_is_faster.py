"""Where attention step by step beats PyTorch's fused kernel: on a CPU, for some types and sizes."""

from collections.abc import Callable

import torch
from torch import Tensor

from core.devices import native_dtype

SHORT = 512
"""Keys up to which a CPU's fused kernel in half precision is slower, up to 11 times at 64 keys."""
AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
HALF = native_dtype(torch.device("cpu")) == torch.bfloat16
"""Whether the processor multiplies half precision itself."""


def kernel(plain: Callable[[Tensor, Tensor], bool], q: Tensor, k: Tensor) -> bool:
    """In half precision for short lines; in float32 where many rows have a few queries each, as in decoding.

    Neither pays on processors that lack the instructions.
    """
    if q.device.type != "cpu":
        return plain(q, k)
    if q.dtype in (torch.bfloat16, torch.float16):
        return HALF and k.shape[2] <= SHORT
    return AVX512 and not torch.is_grad_enabled() and q.shape[2] <= 32 and q.shape[0] * q.shape[1] >= 16
