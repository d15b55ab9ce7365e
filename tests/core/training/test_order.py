"""The order of data: complete, pure, the same for every number of processes, and pinned."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.training.order import drawn, epochs, share, shuffled, stream

small = st.integers(1, 40)


@given(seed=st.integers(0, 2**70), batch_size=small, items=small, steps=small)
def test_every_epoch_takes_every_item_once(seed: int, batch_size: int, items: int, steps: int) -> None:
    taken = np.concatenate([shuffled(seed, step, batch_size, items) for step in range(steps)])
    epoch = np.concatenate([epochs(step, batch_size, items) for step in range(steps)])
    assert taken.dtype == np.int64
    assert epoch.tolist() == [place // items for place in range(steps * batch_size)]
    for whole in range(steps * batch_size // items):
        assert sorted(taken[epoch == whole]) == list(range(items))
    rest = taken[epoch == steps * batch_size // items]
    assert len(set(rest.tolist())) == len(rest)


def test_a_step_does_not_depend_on_the_steps_before_it() -> None:
    forwards = [shuffled(3, step, 7, 50) for step in range(40)]
    backwards = [shuffled(3, step, 7, 50) for step in reversed(range(40))]
    for one, other in zip(forwards, reversed(backwards), strict=True):
        np.testing.assert_array_equal(one, other)


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    orders = {tuple(shuffled(seed, epoch, 100, 100)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_what_a_caller_does_to_a_batch_stays_with_the_caller() -> None:
    before = shuffled(0, 0, 5, 10).copy()
    shuffled(0, 0, 5, 10)[:] = 0
    np.testing.assert_array_equal(shuffled(0, 0, 5, 10), before)


def test_orders_are_pinned() -> None:
    """Checkpoints outlive releases of NumPy: these values must never change."""
    assert shuffled(0, 0, 10, 10).tolist() == [9, 0, 8, 1, 3, 2, 4, 6, 7, 5]
    assert shuffled(1337, 5, 6, 1000).tolist() == [159, 35, 79, 759, 63, 910]
    assert drawn(1337, 5, 6, 1000).tolist() == [506, 497, 326, 28, 830, 222]
    assert int(stream(7, "phase", 2).random_raw()) == 16910540909943257209


def test_shuffling_is_uniform() -> None:
    """Each item comes first in its share of 4,000 epochs (chi-squared, 7 degrees of freedom, p = 1e-4)."""
    first = np.bincount([shuffled(0, 8 * epoch, 1, 8)[0] for epoch in range(4000)], minlength=8)
    assert ((first - 500) ** 2 / 500).sum() < 29.9


def test_drawing_with_replacement_is_pure_and_covers_the_range() -> None:
    counts = np.zeros(10, int)
    for step in range(500):
        batch = drawn(1, step, 20, 10)
        assert batch.dtype == np.int64
        np.testing.assert_array_equal(batch, drawn(1, step, 20, 10))
        counts += np.bincount(batch, minlength=10)
    assert ((counts - 1000) ** 2 / 1000).sum() < 33.7  # chi-squared, 9 degrees of freedom, p = 1e-4
    assert drawn(1, 0, 20, 10).tolist() != drawn(2, 0, 20, 10).tolist()


@given(world=st.integers(1, 8), accumulate=st.integers(1, 8), each=st.integers(1, 5))
def test_ranks_and_micro_batches_share_the_batch_exactly(world: int, accumulate: int, each: int) -> None:
    batch = shuffled(0, 3, world * accumulate * each, 1000)
    shares = [share(batch, rank, world, accumulate) for rank in range(world)]
    assert all(len(mine) == accumulate for mine in shares)
    assert all(len(micro) == each for mine in shares for micro in mine)
    together = np.concatenate([micro for mine in shares for micro in mine])
    assert sorted(together) == sorted(batch)


def test_micro_batches_follow_the_order_of_the_batch() -> None:
    """Micro-batch `a` of all ranks together is the a-th piece of the batch."""
    batch = np.arange(12)
    assert [micro.tolist() for micro in share(batch, 1, 2, 3)] == [[2, 3], [6, 7], [10, 11]]
    assert [micro.tolist() for micro in share(batch)] == [batch.tolist()]


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"batch_size must be a multiple of 6 \(2 processes x 3 micro-batches\), got 8"
    ):
        share(np.arange(8), 0, 2, 3)


@pytest.mark.parametrize(("rank", "world", "accumulate"), [(2, 2, 1), (-1, 2, 1), (0, 0, 1), (0, 1, 0)])
def test_a_share_of_no_one_is_refused(rank: int, world: int, accumulate: int) -> None:
    with pytest.raises(ValueError, match="rank must be in|must be at least 1"):
        share(np.arange(8), rank, world, accumulate)


@pytest.mark.parametrize("draw", [shuffled, drawn])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((-1, 0, 1, 1), "seed must be at least 0, got -1"),
        ((0, -1, 1, 1), "step must be at least 0, got -1"),
        ((0, 0, 0, 1), "batch_size must be at least 1, got 0"),
        ((0, 0, 1, 0), "the data set holds no items"),
    ],
)
def test_impossible_draws_are_refused(draw: object, arguments: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        draw(*arguments)


def test_tens_of_millions_of_items_take_four_bytes_each() -> None:
    items = 10_000_000
    tracemalloc.start()
    batch = shuffled(11, 1, 1000, items)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(batch.tolist())) == 1000
    assert 0 <= batch.min() < batch.max() < items
    assert peak < 4.1 * items
