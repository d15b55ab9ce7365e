"""A look into a mask on a CPU; a GPU would be waited for."""

from collections.abc import Callable

import torch
from torch import Tensor


def kernel(plain: Callable[[Tensor], bool], fully_masked: Tensor) -> bool:
    """Where none is without edges, no layer has to look again."""
    if fully_masked.device.type != "cpu" or torch.compiler.is_compiling():
        return plain(fully_masked)
    return bool(fully_masked.any())
