"""The spaces of observations and actions: Gymnasium's, as plain values that fit into a JSON file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.checks import check_choices

if TYPE_CHECKING:
    import gymnasium

Bounds = tuple[float | None, ...]
SMALLEST = 36
"""Pixels a side that an image has at least: three convolutions would leave nothing of a smaller one."""
UNBOUNDED = 1e30
"""Bounds beyond this, such as the largest number of a type, count as none."""


@dataclass(frozen=True)
class Space:
    """A box of numbers, one choice (discrete), or several independent choices (multidiscrete)."""

    kind: Literal["box", "discrete", "multidiscrete"]
    shape: tuple[int, ...]
    """Of one observation or action; () of a discrete one."""
    dtype: str
    """NumPy's name of the type that the environment uses."""
    low: Bounds = ()
    """Lowest values of a box, one for all its numbers or one each; None where unbounded."""
    high: Bounds = ()
    """Highest values of a box, as `low`."""
    counts: tuple[int, ...] = ()
    """Number of values of each choice."""
    start: tuple[int, ...] = ()
    """Lowest value of each choice."""

    def __post_init__(self) -> None:
        check_choices(self)
        if min(self.shape, default=1) < 1:
            raise ValueError(f"shape = {self.shape} must not have an axis below 1")
        try:
            np.dtype(self.dtype)
        except TypeError:
            raise ValueError(f"dtype = {self.dtype!r} is not a type of NumPy's") from None
        if self.kind == "box":
            self._check_box()
        else:
            self._check_choices()

    def _check_box(self) -> None:
        for name in ("low", "high"):
            if len(getattr(self, name)) not in (1, self.size):
                raise ValueError(f"{name} of a box {self.shape} must hold 1 or {self.size} numbers")
        if self.counts or self.start:
            raise ValueError("counts and start have no effect in a box")

    def _check_choices(self) -> None:
        if len(self.counts) != self.size or len(self.start) != self.size or min(self.counts) < 1:
            raise ValueError(
                f"counts = {self.counts} and start = {self.start} of {self.kind} {self.shape} must hold "
                f"{self.size} numbers each, counts above 0"
            )
        if self.low or self.high or (self.kind == "discrete" and self.shape):
            raise ValueError(f"low, high and, if it is discrete, shape have no effect in a {self.kind} space")

    @property
    def size(self) -> int:
        """Numbers, or choices, of one value."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether values are images: bytes with three axes, two of them at least 36 long (see `channels_first`)."""
        if self.kind != "box" or self.dtype != "uint8" or len(self.shape) != 3:
            return False
        return min(self.shape[1:] if channels_first(self.shape) else self.shape[:-1]) >= SMALLEST

    @property
    def stored(self) -> np.dtype[Any]:
        """The type that values are stored in: float32, uint8 for bytes, int64 for choices."""
        if self.kind != "box":
            return np.dtype(np.int64)
        return np.dtype(np.uint8 if self.dtype == "uint8" else np.float32)

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest values of a box, infinite where unbounded or beyond 1e30: float64, each of `shape`."""
        low = np.array([-math.inf if x is None or x < -UNBOUNDED else x for x in self.low])
        high = np.array([math.inf if x is None or x > UNBOUNDED else x for x in self.high])
        return np.full(self.size, low).reshape(self.shape), np.full(self.size, high).reshape(self.shape)

    def gym(self) -> gymnasium.Space[Any]:
        """The same space as an object of Gymnasium's."""
        from gymnasium import spaces

        if self.kind == "box":
            low, high = self.bounds()
            return spaces.Box(_within(low, self.dtype), _within(high, self.dtype), dtype=np.dtype(self.dtype).type)
        if self.kind == "discrete":
            return spaces.Discrete(self.counts[0], start=self.start[0])
        counts, start = (np.array(x, np.int64).reshape(self.shape) for x in (self.counts, self.start))
        return spaces.MultiDiscrete(counts, dtype=np.dtype(self.dtype).type, start=start)

    def __str__(self) -> str:
        if self.kind == "box":
            return f"box {self.shape} of {self.dtype}"
        first = f" from {self.start}" if any(self.start) else ""
        return f"{self.kind} {self.counts}{first}"


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether images are (C, H, W), the first axis the shortest, as for stacked frames; else they are (H, W, C)."""
    return shape[0] < min(shape[1:])


def describe(space: gymnasium.Space[Any]) -> Space:
    """A space of observations; dictionaries and tuples are flattened as by `gymnasium.spaces.flatten_space`.

    Raises ValueError for a space other than Box, Discrete, MultiDiscrete, MultiBinary, and what flattens to a box.
    """
    from gymnasium import spaces

    flat = spaces.flatten_space(space) if isinstance(space, (spaces.Dict, spaces.Tuple)) else space
    return describe_actions(flat if isinstance(flat, spaces.Box) else space)


def describe_actions(space: gymnasium.Space[Any]) -> Space:
    """A space of actions. Raises ValueError as `describe` does, and for dictionaries and tuples: none is flattened."""
    from gymnasium import spaces

    dtype = str(space.dtype)
    if isinstance(space, spaces.Box):
        return Space("box", space.shape, dtype, _bounds(space.low), _bounds(space.high))
    if isinstance(space, spaces.Discrete):
        return Space("discrete", (), dtype, counts=(int(space.n),), start=(int(space.start),))
    if isinstance(space, spaces.MultiDiscrete):
        counts, start = (tuple(x.flatten().tolist()) for x in (space.nvec, space.start))
        return Space("multidiscrete", space.shape, dtype, counts=counts, start=start)
    if isinstance(space, spaces.MultiBinary):
        size = math.prod(space.shape)
        return Space("multidiscrete", space.shape, dtype, counts=(2,) * size, start=(0,) * size)
    kind = type(space).__name__
    raise ValueError(f"a space {kind} is neither a Box nor made of choices (Discrete, MultiDiscrete, MultiBinary)")


def mismatch(actual: Space, expected: Space, bounds: Literal["compared", "ignored"] = "ignored") -> str:
    """Why values of one space cannot be used where another is expected, as "X, not Y"; "" where they can.

    Floats of any width are interchangeable. The bounds of observations are ignored by default, since they say little;
    those of actions are what a model's output is scaled to.
    """
    values = (actual.kind, actual.shape, actual.counts, actual.start, actual.stored)
    if values != (expected.kind, expected.shape, expected.counts, expected.start, expected.stored):
        return f"{actual}, not {expected}"
    if bounds == "compared" and actual.kind == "box":
        for name, ours, theirs in zip(("low", "high"), actual.bounds(), expected.bounds(), strict=True):
            if not np.allclose(ours, theirs):
                place = np.flatnonzero(~np.isclose(ours, theirs))[0]
                return f"a box whose {name}[{place}] is {ours.flat[place]:g}, not {theirs.flat[place]:g}"
    return ""


def differences(actual: tuple[Space, Space], expected: tuple[Space, Space]) -> Iterator[tuple[str, str]]:
    """Which of observations and actions differ, and why: the bounds of actions count, those of observations do not."""
    for what, ours, theirs in zip(("observations", "actions"), actual, expected, strict=True):
        if reason := mismatch(ours, theirs, "compared" if what == "actions" else "ignored"):
            yield what, reason


def _bounds(values: NDArray[Any]) -> Bounds:
    """One bound where all are equal, else one for each number."""
    numbers = [float(x) if math.isfinite(x) else None for x in values.flat]
    return (numbers[0],) if len(set(numbers)) == 1 else tuple(numbers)


def _within(values: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    """Bounds in the type of a box; where it is an integer, they are clamped to the type's lowest and highest value."""
    if not np.issubdtype(np.dtype(dtype), np.integer):
        return values.astype(dtype)
    limits = np.iinfo(np.dtype(dtype))
    clamped = [min(int(x), limits.max) for x in values.clip(limits.min, limits.max).flat]
    return np.array(clamped, dtype).reshape(values.shape)
