"""Trajectories become tokens: (return-to-go, state, action) of one step after another."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def returns_to_go(rewards: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """R_t = r_t + r_t+1 + ... to the end of the episode (Chen 2021, section 3): rewards (N,) -> float64 (N,).

    offsets: int64 (E + 1,); episode e is the steps offsets[e] ... offsets[e + 1] - 1.
    """
    found = np.empty(len(rewards), np.float64)
    for start, stop in pairwise(offsets.tolist()):
        found[start:stop] = np.cumsum(rewards[start:stop][::-1], dtype=np.float64)[::-1]
    return found


class Window(NamedTuple):
    """K successive steps of each of B episodes; a row that has fewer is padded at the left."""

    returns: Tensor
    """Return-to-go, scaled: float32 (B, K, 1)."""
    observations: Tensor
    """Normalised float32 (B, K, ...); images uint8 as they are; discrete ones int64 (B, K) or (B, K, N)."""
    actions: Tensor
    """As the environment takes them: float32 (B, K, ...), or int64 (B, K) or (B, K, N)."""
    timesteps: Tensor
    """Steps since the beginning of the episode: int64 (B, K); anything at padding."""
    pads: Tensor
    """Steps of padding that each row begins with: int64 (B,)."""
