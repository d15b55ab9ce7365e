"""Rotation of neighbouring channels as one complex product."""

from collections.abc import Callable

import torch
from torch import Tensor


def kernel(plain: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Where complex numbers are supported and no compiler fuses the plain operations."""
    if x.device.type == "mps" or torch.compiler.is_compiling():
        return plain(x, cos, sin)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    z = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))  # (B, T, H, Dh/2)
    return torch.view_as_real(z * torch.complex(cos, sin)).flatten(-2).type_as(x)
