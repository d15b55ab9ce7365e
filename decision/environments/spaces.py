"""The spaces of observations and actions: Gymnasium's, as plain values that fit into a JSON file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
    extent: Literal["declared", "data"] = "declared"
    """Whether bounds and choices are declared by an environment, or only span what the data has."""
    precision: Literal["float32", "float64"] = "float32"
    """Type that the numbers of a box are stored in, bytes aside: float64 where float32 would lose what they say."""
    pictures: tuple[tuple[int, ...], ...] = ()
    """Of a flattened dictionary: the first number and the shape of each picture in it."""

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
        """Whether values are images: bytes with two to four axes, two of them at least 36 long (see `frames`)."""
        if self.kind != "box" or self.dtype != "uint8" or len(self.shape) not in (2, 3, 4):
            return False
        _, *image = frames(self.shape)
        return min(image[1:] if channels_first(image) else image[:-1]) >= SMALLEST

    @property
    def stored(self) -> np.dtype[Any]:
        """The type that values are stored in: that of `precision`, uint8 for bytes, int64 for choices."""
        if self.kind != "box":
            return np.dtype(np.int64)
        return np.dtype(np.uint8 if self.dtype == "uint8" else self.precision)

    @property
    def observed(self) -> np.dtype[Any]:
        """The type that policies read values in: as stored, but float64 where the environment's is wider."""
        wide = self.stored.kind == "f" and not np.can_cast(self.dtype, np.float32)
        return np.dtype(np.float64) if wide else self.stored

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
            kind: dict[str, Any] = {"dtype": np.dtype(self.dtype).type} if self.dtype != "int64" else {}
            return spaces.Discrete(self.counts[0], start=self.start[0], **kind)
        counts, start = (np.array(x, np.int64).reshape(self.shape) for x in (self.counts, self.start))
        return spaces.MultiDiscrete(counts, dtype=np.dtype(self.dtype).type, start=start)

    def span(self) -> str:
        """Lowest and highest values, for an error."""
        if self.kind == "box":
            low, high = self.bounds()
            return f"{low.min():g} to {high.max():g}"
        return f"{min(self.start)} to {max(a + n for a, n in zip(self.start, self.counts, strict=True)) - 1}"

    def __str__(self) -> str:
        if self.kind == "box":
            return f"box {self.shape} of {self.dtype}"
        first = f" from {self.start}" if any(self.start) else ""
        return f"{self.kind} {self.counts}{first}"


def frames(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of images as (frames, *image): (H, W) are grey, three axes one image, four a stack of images."""
    return (1, *shape, 1) if len(shape) == 2 else (1, *shape) if len(shape) == 3 else tuple(shape)


def channels_first(shape: Sequence[int]) -> bool:
    """Whether images are (C, H, W), the first axis the shortest, as for stacked frames; else they are (H, W, C)."""
    return shape[0] < min(shape[1:])


def describe(space: gymnasium.Space[Any]) -> Space:
    """A space of observations; dictionaries and tuples are flattened as by `gymnasium.spaces.flatten_space`.

    Raises ValueError, with the key in a dictionary, for a space other than Box, Discrete, MultiDiscrete, MultiBinary.
    """
    from gymnasium import spaces

    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        return describe_actions(space)
    first, pictures = 0, []
    for key, part in _parts(space):
        try:
            described = describe_actions(part)
        except ValueError as error:
            raise ValueError(f"at key {key!r}, {error}") from error
        if described.is_image:
            pictures.append((first, *described.shape))
        first += spaces.flatdim(part)
    return replace(describe_actions(spaces.flatten_space(space)), pictures=tuple(pictures))


def _parts(space: gymnasium.Space[Any], key: str = "") -> Iterator[tuple[str, gymnasium.Space[Any]]]:
    """The parts of dictionaries and tuples in the order in which they are flattened, each with its key: a/0, say."""
    from gymnasium import spaces

    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        yield key, space
        return
    named = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
    for name, part in named:
        yield from _parts(part, f"{key}/{name}".removeprefix("/"))


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
    those of actions are what a model's output is scaled to. Where they only span the data, more may be accepted.
    """
    values = (actual.kind, actual.shape, actual.counts, actual.start, actual.stored.kind)
    wider = bounds == "compared" and expected.extent == "data" and contains(actual, expected)
    if not wider and values != (expected.kind, expected.shape, expected.counts, expected.start, expected.stored.kind):
        return f"{actual}, not {expected}"
    if not wider and bounds == "compared" and actual.kind == "box":
        for name, ours, theirs in zip(("low", "high"), actual.bounds(), expected.bounds(), strict=True):
            if not np.allclose(ours, theirs):
                place = np.flatnonzero(~np.isclose(ours, theirs))[0]
                return f"a box whose {name}[{place}] is {ours.flat[place]:g}, not {theirs.flat[place]:g}"
    return ""


def spanned(actions: NDArray[Any]) -> Space:
    """The space that actions (N, ...) of a data set span: choices where they are whole numbers, else a box."""
    whole, shape = actions.dtype.kind != "f", actions.shape[1:]
    rows = actions.reshape(len(actions), -1).astype(np.int64 if whole else np.float64)  # (N, size)
    low, high = rows.min(axis=0), rows.max(axis=0)
    if not whole:
        return Space("box", shape, "float32", _bounds(low), _bounds(high), extent="data")
    start = low.clip(max=0)  # choices are counted from 0, or from the lowest below it
    counts, first = (tuple(each.tolist()) for each in (high - start + 1, start))
    return Space("multidiscrete" if shape else "discrete", shape, "int64", counts=counts, start=first, extent="data")


def unfit(values: NDArray[Any], space: Space) -> NDArray[np.bool_] | None:
    """Which of some values (..., *shape) the type or the choices of a space do not hold; None where all are held."""
    declared = np.dtype(space.dtype)
    if space.kind != "box":
        first, counts = (np.array(x).reshape(space.shape) for x in (space.start, space.counts))
        bad = (values < first) | (values >= first + counts) | (values != np.floor(values))
    elif values.dtype == declared or declared.kind not in "iub":
        return None
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            bad = values.astype(declared) != values
    return bad if bad.any() else None


def contains(outer: Space, inner: Space) -> bool:
    """Whether all values of one space are values of another of the same kind and shape."""
    if (outer.kind, outer.shape, outer.stored.kind) != (inner.kind, inner.shape, inner.stored.kind):
        return False
    if outer.kind == "box":
        (low, high), (least, most) = outer.bounds(), inner.bounds()
        rounding = 1e-6 * np.maximum(1, np.abs(np.stack([least, most])).max(0))
        return bool(((low <= least + rounding) & (most - rounding <= high)).all())
    first, counts, start, number = (np.array(x) for x in (outer.start, outer.counts, inner.start, inner.counts))
    return bool(((first <= start) & (start + number <= first + counts)).all())


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
