"""From tokens to batches: windows to train on, and windows that cover the validation text.

Every batch is a pure function of (seed, step, rank), and only its own windows are read from disk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core import vocabulary
from core.checks import check_choices, check_positive
from core.training.order import Indices, Share, drawn, entries, interleaved, share, stream
from text.corpus.sequences import Ragged
from text.corpus.shards import Mixture, Tokens

IGNORED = vocabulary.IGNORED
"""A target that does not count."""

Batch = tuple[Tensor, Tensor]
WindowOrder = Literal["shuffled", "random"]


@dataclass(frozen=True, eq=False)
class TrainingWindows:
    """Windows of `context` tokens; their targets are the same tokens, shifted by one.

    tokens: the training part, integers (N,), in memory or memory-mapped; or several texts, in fixed shares.
    batch_size: windows of one optimiser step, over all processes and micro-batches.
    order: "shuffled" tiles the text, from another offset each epoch, and takes every tile once an epoch (up to
        2 * context tokens at the ends are left out); "random" takes windows from anywhere, as nanoGPT does.

    Raises ValueError for a bad value, or a text shorter than one window and its last target.
    """

    tokens: Tokens | Mixture
    context: int
    batch_size: int
    seed: int = 0
    order: WindowOrder = "shuffled"

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "batch_size")
        for text in self._texts:
            _check_length("training", text, self.context)

    @property
    def items(self) -> int:
        """Windows in an epoch, in which several texts have as many together as they hold."""
        return sum(self._tiles)

    def batch(self, step: int, rank: int = 0, world: int = 1, accumulate: int = 1) -> list[Batch]:
        """The micro-batches of a rank at a step: `accumulate` pairs (ids, targets), each int64 (b, context).

        b = batch_size / (world * accumulate); the micro-batches of all ranks together are the same global batch,
        whatever their number. Raises ValueError if batch_size does not divide.
        """
        chosen, before = self._chosen(step)
        starts = self._starts(step, chosen, before)
        shares = share(np.arange(self.batch_size), rank, world, accumulate)
        parts = (np.stack([self._window(chosen[row], starts[row]) for row in rows]) for rows in shares)
        return [(_tensor(rows[:, :-1]), _tensor(rows[:, 1:])) for rows in parts]  # each of (b, context + 1)

    @cached_property
    def _texts(self) -> Sequence[Tokens]:
        return self.tokens.parts if isinstance(self.tokens, Mixture) else (self.tokens,)

    @cached_property
    def _tiles(self) -> list[int]:
        """Windows in an epoch of each text."""
        return [max(1, (len(text) - self.context) // self.context) for text in self._texts]

    def _window(self, text: int, start: int) -> NDArray[Any]:
        """(context + 1,)"""
        return self._texts[text][start : start + self.context + 1]

    def _chosen(self, step: int) -> tuple[Indices, Indices]:
        """The text of each window of the global batch: int64 (batch_size,); how many were taken of each text before."""
        first = step * self.batch_size
        if isinstance(self.tokens, Mixture):
            return interleaved(self.seed, first, self.batch_size, self.tokens.weights)
        return np.zeros(self.batch_size, np.int64), np.array([first])

    def _starts(self, step: int, chosen: Indices, before: Indices) -> Indices:
        """Where the windows of the global batch begin: int64 (batch_size,)."""
        if self.order == "random":
            rooms = np.array([len(text) - self.context for text in self._texts])
            return drawn(self.seed, step, self.batch_size, rooms[chosen])
        starts = np.empty(self.batch_size, np.int64)
        for text, first in enumerate(before.tolist()):
            rows = np.flatnonzero(chosen == text)
            starts[rows] = self._tile_starts(text, first, len(rows))
        return starts

    def _tile_starts(self, text: int, first: int, count: int) -> Indices:
        """Where the tiles of a text begin, from number `first` on, counted over all epochs: int64 (count,)."""
        items = self._tiles[text]
        tiles = entries(self.seed, first, count, items)
        epoch = (first + np.arange(count)) // items
        room = min(self.context, len(self._texts[text]) - items * self.context)
        offsets = np.array([_offset(self.seed, number, room) for number in epoch.tolist()], np.int64)
        return tiles * self.context + offsets


def validation_batches(tokens: Tokens, context: int, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """The whole validation text, in order, as windows of `context` that do not overlap.

    Yields (ids, targets), each int64 (batch_size, context). Over all batches and ranks every token but the first is a
    target exactly once; places beyond the end have the target IGNORED. All ranks get the same number of batches, all
    of one shape, the last ones possibly without any target.
    Raises ValueError for a bad batch size or rank, or a text shorter than one window and its last target.
    """
    _check_length("validation", tokens, context)
    if batch_size < 1 or not 0 <= rank < world:
        raise ValueError(f"batch_size must be positive and rank in 0..{world - 1}, got {batch_size} and {rank}")
    windows = -(-(len(tokens) - 1) // context)
    rounds = -(-windows // (batch_size * world))
    firsts = [(turn * world + rank) * batch_size for turn in range(rounds)]
    return (_tail_padded(tokens, context, first, batch_size) for first in firsts)


def row_numbers(step: int, batch_size: int, parts: Share) -> list[Indices]:
    """The numbers of a process's rows at a step, in micro-batches, all rows since step 0 being counted: int64 (b,)."""
    first = step * batch_size
    return share(np.arange(first, first + batch_size), *parts)


def tiles(tokens: Tokens, longest: int) -> Ragged:
    """The whole text, in order, in as few windows of at most `longest` tokens as hold it, of about equal length.

    Raises ValueError for a text that is shorter than one window.
    """
    _check_length("validation", tokens, longest - 1)
    count = -(-len(tokens) // longest)
    ends = np.arange(1, count + 1) * len(tokens) // count
    return Ragged(np.asarray(tokens, np.int32), ends)


def _tail_padded(tokens: Tokens, context: int, first: int, batch_size: int) -> Batch:
    rows = np.full((batch_size, context + 1), int(tokens[len(tokens) - 1 :][0]))
    targets = np.full_like(rows, IGNORED)
    for row in range(batch_size):
        start = (first + row) * context
        part = tokens[start : start + context + 1]
        rows[row, : len(part)] = targets[row, : len(part)] = part
    return _tensor(rows[:, :-1]), _tensor(targets[:, 1:])


def _tensor(rows: NDArray[Any]) -> Tensor:
    return torch.from_numpy(rows.astype(np.int64, order="C"))


@lru_cache(maxsize=4)
def _offset(seed: int, epoch: int, room: int) -> int:
    """Where the first tile of an epoch begins, in 0..room - 1."""
    return int(stream(seed, "phase", epoch).random_raw()) % room


def _check_length(part: str, tokens: Tokens | Mixture, context: int) -> None:
    if context < 1:
        raise ValueError(f"context must be at least 1, got {context}")
    if len(tokens) <= context:
        raise ValueError(
            f"the {part} text has {len(tokens)} tokens, a context of {context} needs at least {context + 1}: "
            f"use a longer text or a shorter context"
        )
