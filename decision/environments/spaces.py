"""What observations and actions look like: Gymnasium's spaces as plain values that go into JSON files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.checks import check_choices

if TYPE_CHECKING:
    import gymnasium

Bounds = tuple[float | None, ...]
SMALLEST = 36
"""Pixels of a side below which bytes of three axes are numbers, not a picture: convolutions leave nothing of them."""
ENDLESS = 1e30
"""A bound beyond this is one in name only, such as the largest number of a type."""


@dataclass(frozen=True)
class Space:
    """A box of numbers, one choice (discrete), or several independent choices (multidiscrete)."""

    kind: Literal["box", "discrete", "multidiscrete"]
    shape: tuple[int, ...]
    """Of one observation or action; () of a discrete one."""
    dtype: str
    """NumPy's name of the numbers that the environment takes or gives."""
    low: Bounds = ()
    """Lowest values of a box, one for all its numbers or one for each; None where unbounded."""
    high: Bounds = ()
    """Highest values of a box, as `low`."""
    counts: tuple[int, ...] = ()
    """How many values each choice has."""
    start: tuple[int, ...] = ()
    """The least value of each choice."""

    def __post_init__(self) -> None:
        check_choices(self)
        if min(self.shape, default=1) < 1:
            raise ValueError(f"shape = {self.shape} must have no axis below 1")
        try:
            np.dtype(self.dtype)
        except TypeError:
            raise ValueError(f"dtype = {self.dtype!r} is no type of NumPy's") from None
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
        """How many numbers, or choices, one value holds."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether values are pixels: bytes with three axes, two of them of 36 or more (see `channels_first`)."""
        if self.kind != "box" or self.dtype != "uint8" or len(self.shape) != 3:
            return False
        return min(self.shape[1:] if channels_first(self.shape) else self.shape[:-1]) >= SMALLEST

    @property
    def stored(self) -> np.dtype[Any]:
        """The type that values are kept in: float32, uint8 for bytes, int64 for choices."""
        if self.kind != "box":
            return np.dtype(np.int64)
        return np.dtype(np.uint8 if self.dtype == "uint8" else np.float32)

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest values of a box, infinite where unbounded or beyond 1e30: float64, each of `shape`."""
        low = [-math.inf if x is None or x < -ENDLESS else x for x in self.low]
        high = [math.inf if x is None or x > ENDLESS else x for x in self.high]
        return self._full(low), self._full(high)

    def _full(self, values: list[float]) -> NDArray[np.float64]:
        return np.broadcast_to(np.array(values), self.size).reshape(self.shape)

    def gym(self) -> gymnasium.Space[Any]:
        """The space as Gymnasium's."""
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
    """Whether pixels lie as (C, H, W), the first axis the shortest, as for stacked frames; else as (H, W, C)."""
    return shape[0] < min(shape[1:])


def describe(space: gymnasium.Space[Any]) -> Space:
    """What an environment shows; dictionaries and tuples as `gymnasium.spaces.flatten_space` lays them out.

    Raises ValueError for a space that is none of Box, Discrete, MultiDiscrete, MultiBinary, or flattened to a box.
    """
    from gymnasium import spaces

    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        flat = spaces.flatten_space(space)
        if isinstance(flat, spaces.Box):
            return describe_actions(flat)
    return describe_actions(space)


def describe_actions(space: gymnasium.Space[Any]) -> Space:
    """What an environment takes. Raises ValueError as `describe`, and for dictionaries and tuples, never flattened."""
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


def misfit(given: Space, wanted: Space, bounds: Literal["compared", "ignored"] = "ignored") -> str:
    """Why values of the space `given` cannot serve where `wanted` is asked for, as "X, not Y"; "" where they can.

    Floats of any width serve as each other. `bounds` of observations say little and are ignored by default; those of
    actions are what a model's output is scaled to.
    """
    alike = (given.kind, given.shape, given.counts, given.start, given.stored)
    if alike != (wanted.kind, wanted.shape, wanted.counts, wanted.start, wanted.stored):
        return f"{given}, not {wanted}"
    if bounds == "compared" and given.kind == "box":
        for name, here, there in zip(("low", "high"), given.bounds(), wanted.bounds(), strict=True):
            if not np.allclose(here, there):
                place = np.flatnonzero(~np.isclose(here, there))[0]
                return f"a box whose {name}[{place}] is {here.flat[place]:g}, not {there.flat[place]:g}"
    return ""


def _bounds(values: NDArray[Any]) -> Bounds:
    """One bound where all are the same, else one for each number."""
    numbers = [float(x) if math.isfinite(x) else None for x in values.flat]
    return (numbers[0],) if len(set(numbers)) == 1 else tuple(numbers)


def _within(values: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    """Bounds in a box's own type; those of integers that lie at or beyond its last value become that value."""
    if not np.issubdtype(np.dtype(dtype), np.integer):
        return values.astype(dtype)
    limits = np.iinfo(np.dtype(dtype))
    found = np.full(values.shape, limits.max, dtype)
    found[values <= limits.min] = limits.min
    inside = (values > limits.min) & (values < limits.max)
    found[inside] = values[inside]
    return found
