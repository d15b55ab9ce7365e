"""Data sets to test on: of any lengths and spaces, with numbers that show where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from decision.data.store import Episode, Trajectories, stack
from decision.environments.spaces import Space

VECTOR = Space("box", (3,), "float32", low=(None,), high=(None,))
PUSH = Space("box", (2,), "float32", low=(-1.0,), high=(1.0,))
CHOICE = Space("discrete", (), "int64", counts=(2,), start=(0,))
CHOICES = Space("multidiscrete", (2,), "int64", counts=(2, 3), start=(0, 1))
PIXELS = Space("box", (4, 5, 3), "uint8", low=(0.0,), high=(255.0,))
PICTURE = Space("box", (36, 40, 3), "uint8", low=(0.0,), high=(255.0,))


def values(space: Space, count: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Random values of a space: (count, *shape)."""
    if space.kind != "box":
        counts, start = (np.array(x).reshape(space.shape) for x in (space.counts, space.start))
        return start + rng.integers(0, counts, (count, *space.shape))
    if space.dtype == "uint8":
        return rng.integers(0, 256, (count, *space.shape)).astype(np.uint8)
    return rng.uniform(-1, 1, (count, *space.shape)).astype(np.float32)


def episode(length: int, rng: np.random.Generator, observed: Space = VECTOR, acted: Space = CHOICE) -> Episode:
    """Random values; terminated if its length is even, else truncated."""
    observations = values(observed, length + 1, rng)
    rewards = rng.normal(size=length).astype(np.float32)
    ends = length % 2 == 0, length % 2 == 1
    return Episode(observations[:-1], values(acted, length, rng), rewards, *ends, observations[-1])


def trajectories(
    lengths: Sequence[int], observed: Space = VECTOR, acted: Space = CHOICE, seed: int = 0, **metadata: Any
) -> Trajectories:
    """Episodes of the given lengths."""
    rng = np.random.default_rng(seed)
    settings = {"environment": "Example-v0", "observation_space": observed, "action_space": acted} | metadata
    return stack([episode(length, rng, observed, acted) for length in lengths], **settings)


def same(one: Trajectories, other: Trajectories) -> bool:
    """Whether two data sets are equal, arrays bit for bit, but for where they come from."""
    ignored = {"provenance": None}
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("observations", "actions", "rewards", "offsets")]
    pairs += [(getattr(one, name), getattr(other, name)) for name in ("terminated", "truncated", "final_observations")]
    equal = all(np.array_equal(a, b) and getattr(a, "dtype", 0) == getattr(b, "dtype", 0) for a, b in pairs)
    return equal and one.metadata() | ignored == other.metadata() | ignored
