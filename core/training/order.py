"""The order of data, as a pure function of (seed, step, rank).

Nothing here has a state: a resumed run gets the same batches without replay, and any number of processes
agree on a step's batch without exchanging anything. The random streams are those that NumPy keeps stable
over its releases (Philox, SeedSequence, and RandomState's shuffle, frozen by NEP 19).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.int64]
ROUND = 4096  # items in which several sources have their shares
Batch = tuple[Tensor, ...]


class Share(NamedTuple):
    """The part of every global batch that a process takes: that of its rank among `world`, in micro-batches."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1


Order = Callable[[int, Share, float], Sequence[Batch]]
"""A process's micro-batches, so many steps after the start, when that fraction of the budget is spent."""


def shuffled(seed: int, step: int, batch_size: int, items: int) -> Indices:
    """The global batch of a step, drawn without replacement, epoch after epoch.

    Epoch `e` is a permutation of `range(items)` derived from (seed, e); a batch may straddle epochs.

    Returns int64 (batch_size,). The first step of an epoch costs O(items), every other one O(batch_size).
    Raises ValueError for a negative seed or step, and for a batch size or a number of items below 1.
    """
    _check(seed, step, batch_size, items)
    return entries(seed, step * batch_size, batch_size, items)


def entries(seed: int, first: int, count: int, items: int) -> Indices:
    """Those of the same sequence from number `first` on, however it is cut into batches: int64 (count,)."""
    found = np.empty(count, np.int64)
    filled = 0
    while filled < count:
        epoch, start = divmod(first + filled, items)
        piece = _permutation(seed, epoch, items)[start : start + count - filled]
        found[filled : filled + len(piece)] = piece
        filled += len(piece)
    return found


def epochs(step: int, batch_size: int, items: int) -> Indices:
    """The epoch of each entry of `shuffled(seed, step, batch_size, items)`: int64 (batch_size,)."""
    return (step * batch_size + np.arange(batch_size, dtype=np.int64)) // items


def interleaved(seed: int, first: int, count: int, weights: Sequence[float]) -> tuple[Indices, Indices]:
    """From which of several sources the items from number `first` on come: int64 (count,); and how many of each source
    came before them: int64 (sources,).

    Every ROUND items hold each source as often as its weight says, in random order. Raises ValueError for a weight that
    is not positive, or too small for a place in a round.
    """
    shares = _round_shares(tuple(weights))
    turn, start = divmod(first, ROUND)
    before = turn * shares + np.bincount(_round(seed, turn, tuple(weights))[:start], minlength=len(shares))
    rounds = [_round(seed, number, tuple(weights)) for number in range(turn, (first + count - 1) // ROUND + 1)]
    return np.concatenate(rounds)[start : start + count], before


@lru_cache(maxsize=8)
def _round(seed: int, turn: int, weights: tuple[float, ...]) -> Indices:
    sources = np.repeat(np.arange(len(weights)), _round_shares(weights))
    np.random.RandomState(stream(seed, "interleaved", turn)).shuffle(sources)
    return sources


@lru_cache(maxsize=8)
def _round_shares(weights: tuple[float, ...]) -> Indices:
    """How many of the ROUND items are from each source: in proportion, those with the largest remainder one more."""
    exact = ROUND * np.array(weights) / sum(weights)
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: ROUND - shares.sum()]] += 1
    if min(weights) <= 0 or shares.min() < 1:
        raise ValueError(f"weights must be above 0, and above 1/{ROUND} of their sum, got {weights}")
    return shares


def drawn(seed: int, step: int, batch_size: int, items: int | Indices) -> Indices:
    """The global batch of a step, drawn with replacement from `range(items)`: int64 (batch_size,).

    items: one number, or that of each entry. Raises ValueError as `shuffled` does.
    """
    _check(seed, step, batch_size, int(np.min(items)))
    raw = stream(seed, "drawn", step).random_raw(batch_size)
    return (raw % np.asarray(items, np.uint64)).astype(np.int64)  # 64 random bits: the bias is below items / 2^64


def share(indices: Indices, rank: int = 0, world: int = 1, accumulate: int = 1) -> list[Indices]:
    """The micro-batches of one rank: its part of a global batch, in `accumulate` equal pieces.

    Over all ranks and micro-batches each entry appears exactly once, for every `world` and `accumulate`.
    Raises ValueError if the batch does not divide by `world * accumulate`, or the rank is not in the world.
    """
    if world < 1 or accumulate < 1:
        raise ValueError(f"world and accumulate must be at least 1, got world {world}, accumulate {accumulate}")
    if not 0 <= rank < world:
        raise ValueError(f"rank must be in 0..{world - 1}, got {rank}")
    if len(indices) % (world * accumulate):
        raise ValueError(
            f"batch_size must be a multiple of {world * accumulate} "
            f"({world} processes x {accumulate} micro-batches), got {len(indices)}"
        )
    return list(indices.reshape(accumulate, world, -1)[:, rank])  # (accumulate, batch / world / accumulate)


def stream(seed: int, purpose: str, index: int = 0) -> np.random.Philox:
    """An independent random stream for every (seed, purpose, index), whatever was drawn before."""
    entropy = (seed, int.from_bytes(purpose.encode(), "little"), index)
    return np.random.Philox(np.random.SeedSequence(entropy))


@lru_cache(maxsize=16)  # a batch may straddle two epochs of each of several sources
def _permutation(seed: int, epoch: int, items: int) -> NDArray[Any]:
    order: NDArray[Any] = np.arange(items, dtype=np.uint32 if items <= 2**32 else np.uint64)
    np.random.RandomState(stream(seed, "shuffled", epoch)).shuffle(order)
    order.flags.writeable = False
    return order


def _check(seed: int, step: int, batch_size: int, items: int) -> None:
    for name, value, least in (("seed", seed, 0), ("step", step, 0), ("batch_size", batch_size, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if items < 1:
        raise ValueError("there is nothing to draw from: the data set holds no items")
