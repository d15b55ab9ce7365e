"""Batches of rows of about equal length, so that little of them is padding.

An epoch is a permutation of the rows. It is sorted by length, a large chunk at a time, and cut into batches, which come
in random order. All of this is drawn from (seed, epoch): a batch is a pure function of (seed, step), however many
processes and micro-batches share it, and no step needs the ones before it.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.checks import check_at_least, check_choices, check_positive
from core.training.order import Indices, Share, shuffled, stream
from text.corpus.sequences import NOTHING

Unit = Literal["rows", "tokens"]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LengthBatches:
    """The batches of a training run.

    lengths: int64 (n,), or (n, 2) of pairs: the tokens of each row; of pairs the second counts first when sorting.
    size: what a batch holds, over all processes and micro-batches: so many rows, or at most so many tokens, padding
        counted. The last batch of an epoch may hold less.
    sorted_together: batches' worth of rows that are sorted by length together, of all those in an epoch.
    noise: tokens by which a length may pass for greater when sorting; the more, the less alike are batches of
        different epochs, and the more of them is padding.

    Raises ValueError for no rows, and for a row that is longer than `size` tokens.
    """

    lengths: NDArray[np.int64]
    size: int
    unit: Unit = "rows"
    seed: int = 0
    sorted_together: int = 100
    noise: int = 1

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "size", "sorted_together")
        check_at_least(self, 0, "seed", "noise")
        _check_lengths(self.lengths, self.size, self.unit)

    def batch(self, step: int) -> Indices:
        """The rows of a step: int64 (b,), each row once an epoch."""
        epoch, number = self.place(step)
        return self._plan(epoch)[number]

    def shares(self, step: int, share: Share) -> list[Indices]:
        """The micro-batches of a process at a step: `accumulate` parts of the batch, each int64 (b,).

        Over all processes and micro-batches every row of the batch appears once, in parts whose sizes differ by one
        at the most; where there are fewer rows than parts, a part without any is [NOTHING].
        """
        rows, parts = self.batch(step), share.world * share.accumulate
        mine = (rows[index * share.world + share.rank :: parts] for index in range(share.accumulate))
        return [part if len(part) else np.array([NOTHING]) for part in mine]

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the number of its batch in the epoch."""
        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        ends = self._ends
        while not ends or ends[-1] <= step:
            ends.append((ends[-1] if ends else 0) + len(self._plan(len(ends))))
        epoch = bisect_right(ends, step)
        return epoch, step - (ends[epoch - 1] if epoch else 0)

    def steps(self, epochs: float) -> int:
        """How many steps make a number of epochs, a part of the last in proportion."""
        whole = int(epochs)
        before = sum(len(self._plan(epoch)) for epoch in range(whole))
        return before + (round((epochs - whole) * len(self._plan(whole))) if epochs > whole else 0)

    @cached_property
    def _ends(self) -> list[int]:
        """Of each epoch that was looked at so far, the first step behind it."""
        return []

    @cached_property
    def _plan(self) -> Callable[[int], list[Indices]]:
        """The batches of an epoch, in order: O(n log n) the first time, kept for two epochs."""
        return lru_cache(maxsize=2)(self._planned)

    def _planned(self, epoch: int) -> list[Indices]:
        rows = shuffled(self.seed, epoch, len(self.lengths), len(self.lengths))  # a step of n rows is an epoch
        noise = stream(self.seed, "length noise", epoch).random_raw(len(rows)) % np.uint64(self.noise + 1)
        noisy = _pairs(self.lengths) + noise.astype(np.int64)[:, None]
        each = max(1, round(self.sorted_together * self._rows_per_batch))
        chunks = [rows[start : start + each] for start in range(0, len(rows), each)]
        ordered = [by_length(noisy, chunk)[:: -1 if turn % 2 else 1] for turn, chunk in enumerate(chunks)]
        batches = cut(self.lengths, np.concatenate(ordered), self.size, self.unit)
        order = np.random.RandomState(stream(self.seed, "order of batches", epoch)).permutation(len(batches))
        return [batches[number] for number in order]

    @property
    def _rows_per_batch(self) -> float:
        return self.size if self.unit == "rows" else self.size / float(_pairs(self.lengths).sum(1).mean())


def by_length(lengths: NDArray[np.int64], rows: Indices) -> Indices:
    """The rows from short to long; those of equal second length by the first, in turns up and down."""
    first, second = _pairs(lengths)[rows].T
    return rows[np.lexsort((np.where(second % 2, -first, first), second))]


def cut(lengths: NDArray[np.int64], rows: Indices, size: int, unit: Unit) -> list[Indices]:
    """The rows in order, in batches that are as large as `size` allows."""
    if unit == "rows":
        return [rows[start : start + size] for start in range(0, len(rows), size)]
    starts, first, second = [0], 0, 0
    for place, (one, two) in enumerate(_pairs(lengths)[rows].tolist()):
        first, second = max(first, one), max(second, two)
        if (place + 1 - starts[-1]) * (first + second) > size:
            starts.append(place)
            first, second = one, two
    return np.split(rows, starts[1:])


def evaluation_batches(
    lengths: NDArray[np.int64], size: int, unit: Unit = "rows", rank: int = 0, world: int = 1
) -> list[Indices]:
    """A process's batches of all rows, each row once over all of them, the longest first.

    All processes get the same number of batches, the last possibly [NOTHING]; `restored` brings results in order.
    Raises ValueError as `LengthBatches` does.
    """
    _check_lengths(lengths, size, unit)
    batches = cut(lengths, by_length(lengths, np.arange(len(lengths)))[::-1].copy(), size, unit)
    batches += [np.array([NOTHING])] * (-len(batches) % world)
    return batches[rank::world]


def snug_batches(lengths: NDArray[np.int64], rows: int, tokens: int = 1024, spare: int = 32) -> list[Indices]:
    """All rows, the longest first, in batches in which nearly nothing is padding, for a model that only reads.

    lengths: int64 (n,)
    rows, tokens: the most rows of a batch, and the most places, where it has more than one row; a processor works on
        a few thousand numbers of each of so many places without leaving its cache
    spare: the most places of padding of a batch: another batch costs about as much as so many
    """
    order = by_length(lengths, np.arange(len(lengths)))[::-1].copy()
    starts, padding, longest = [0], 0, 0
    for place, length in enumerate(lengths[order].tolist()):
        longest, padding = max(longest, length), padding + max(0, longest - length)
        size = place + 1 - starts[-1]
        if size > 1 and (size > rows or size * longest > tokens or padding > spare):
            starts.append(place)
            longest, padding = length, 0
    return np.split(order, starts[1:])


def restored(batches: Sequence[Indices], results: Sequence[Sequence[T]], rows: int) -> list[T]:
    """The results of batches, one a row, in the order of the rows. Raises ValueError if any row has none."""
    found = {
        row: result
        for batch, values in zip(batches, results, strict=True)
        for row, result in zip(batch.tolist(), values, strict=True)
        if row != NOTHING
    }
    if len(found) != rows:
        raise ValueError(f"{len(found)} of {rows} rows have a result: those of all processes are needed")
    return [found[row] for row in range(rows)]


def padding(lengths: NDArray[np.int64], batches: Sequence[Indices]) -> float:
    """Which fraction of all the places in padded batches is padding."""
    sides = _pairs(lengths)
    places = sum(len(rows) * int(sides[rows].max(0).sum()) for rows in batches)
    return 1 - sum(int(sides[rows].sum()) for rows in batches) / places


def _pairs(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lengths as those of pairs, (n, 2); of a single text the first is 0."""
    return lengths if lengths.ndim == 2 else np.stack([np.zeros_like(lengths), lengths], axis=1)


def _check_lengths(lengths: NDArray[np.int64], size: int, unit: Unit) -> None:
    if lengths.ndim > 2 or (lengths.ndim == 2 and lengths.shape[1] != 2):
        raise ValueError(f"lengths must be of shape (n,) or (n, 2), got {lengths.shape}")
    if not len(lengths):
        raise ValueError("there is nothing to draw from: the data set holds no rows")
    tokens = _pairs(lengths).sum(1)
    if unit == "tokens" and (longest := int(tokens.max())) > size:
        raise ValueError(
            f"row {int(tokens.argmax()) + 1} has {longest} tokens, more than the {size} of a batch: allow more tokens "
            f"in a batch, or truncate"
        )
