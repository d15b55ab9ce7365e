"""The noise that images begin as: a pure function of (seed, index), whatever else is drawn beside it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from core.training.order import stream


def noise(seed: int, indices: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers, float32 (len(indices), *shape); row i depends on the seed and indices[i] alone."""
    return torch.stack([torch.randn(shape, generator=generator(seed, "image", index)) for index in indices])


def generator(seed: int, purpose: str, index: int) -> torch.Generator:
    """A generator of random numbers on the CPU for every (seed, purpose, index)."""
    return torch.Generator().manual_seed(seed_of(seed, purpose, index))


def seed_of(seed: int, purpose: str, index: int) -> int:
    """A seed for every (seed, purpose, index)."""
    return int(stream(seed, purpose, index).random_raw(1)[0]) >> 1  # torch takes 63 bits
