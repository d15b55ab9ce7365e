"""Batches by length: each row once an epoch, the same whatever shares them and whichever is asked for first."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.training.order import Share
from text.corpus.batches import LengthBatches, Unit, evaluation_batches, padding, restored, snug_batches
from text.corpus.sequences import NOTHING, Ragged, choose_tokenizer, encode_all
from text.corpus.windows import IGNORED
from text.examples.pairs import load_pairs

Lengths = NDArray[np.int64]
UNITS: tuple[tuple[Unit, int], ...] = (("rows", 7), ("tokens", 90))


def some_lengths(rows: int = 200, sides: int = 2, seed: int = 0) -> Lengths:
    """Of sentences: from 1 to 40, sides of a pair alike."""
    rng = np.random.default_rng(seed)
    first = rng.integers(1, 36, rows)
    return np.stack([first, first + rng.integers(0, 5, rows)], 1)[:, :sides].squeeze(-1 if sides == 1 else ())


def tokens(lengths: Lengths, rows: NDArray[np.int64]) -> int:
    sides = lengths.reshape(len(lengths), -1)
    return len(rows) * int(sides[rows].max(0).sum())


@pytest.mark.parametrize(("unit", "size"), UNITS)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 120), sides=st.sampled_from([1, 2]), noise=st.integers(0, 3))
def test_an_epoch_has_every_row_once(unit: Unit, size: int, seed: int, rows: int, sides: int, noise: int) -> None:
    lengths = some_lengths(rows, sides, seed)
    batches = LengthBatches(lengths, size, unit, seed, sorted_together=3, noise=noise)
    step = 0
    for epoch in range(2):
        found: list[int] = []
        while batches.place(step)[0] == epoch:
            found.extend(batches.batch(step).tolist())
            step += 1
        assert sorted(found) == list(range(rows))
        assert batches.steps(epoch + 1) == step


def test_a_batch_is_as_large_as_allowed() -> None:
    lengths = some_lengths()
    steps = LengthBatches(lengths, 90, "tokens").steps(3)
    batches = [LengthBatches(lengths, 90, "tokens").batch(step) for step in range(steps)]
    sizes = [tokens(lengths, rows) for rows in batches]
    assert max(sizes) <= 90
    assert sorted(sizes)[3] > 90 - 2 * 40  # one more row would not fit, but for the end of each epoch
    rows = LengthBatches(lengths, 7)
    assert Counter(len(rows.batch(step)) for step in range(rows.steps(1))) == {7: 28, 4: 1}


@pytest.mark.parametrize(("unit", "size"), UNITS)
def test_any_step_may_be_asked_for_first(unit: Unit, size: int) -> None:
    lengths = some_lengths()
    in_order = LengthBatches(lengths, size, unit, seed=3)
    expected = [in_order.batch(step) for step in range(in_order.steps(4))]
    for step in (len(expected) - 1, 0, len(expected) // 2, 1):
        np.testing.assert_array_equal(LengthBatches(lengths, size, unit, seed=3).batch(step), expected[step])
        np.testing.assert_array_equal(in_order.batch(step), expected[step])


@pytest.mark.parametrize(("unit", "size"), UNITS)
@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (2, 1), (1, 3), (3, 2), (16, 2)])
def test_the_same_batch_however_it_is_shared(unit: Unit, size: int, world: int, accumulate: int) -> None:
    batches = LengthBatches(some_lengths(), size, unit, seed=1)
    for step in range(batches.steps(1)):
        shares = [batches.shares(step, Share(rank, world, accumulate)) for rank in range(world)]
        assert {len(share) for share in shares} == {accumulate}
        parts = [*chain.from_iterable(shares)]
        assert min(map(len, parts)) >= 1
        together = [row for part in parts for row in part.tolist() if row != NOTHING]
        assert sorted(together) == sorted(batches.batch(step).tolist())
        counts = [0 if part[0] == NOTHING else len(part) for part in parts]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (2, 1), (3, 4), (8, 2)])
def test_a_mean_over_real_tokens_is_the_same_however_it_is_shared(world: int, accumulate: int) -> None:
    """Summed values and counts of all parts, one divided by the other, as a training step does it."""
    lengths = some_lengths(sides=1)
    texts = Ragged.of([np.arange(length) * (row + 1) for row, length in enumerate(lengths.tolist())])
    batches = LengthBatches(lengths, 90, "tokens")
    for step in range(0, batches.steps(1), 7):
        total = count = 0
        for rank in range(world):
            for rows in batches.shares(step, Share(rank, world, accumulate)):
                padded, _ = texts.padded(rows, IGNORED)
                total += int(padded[padded != IGNORED].sum())
                count += int((padded != IGNORED).sum())
        by_hand = np.concatenate([texts[row] for row in batches.batch(step).tolist()])
        assert (total, count) == (by_hand.sum(), by_hand.size)


def test_epochs_and_seeds_differ() -> None:
    lengths = some_lengths(2000)
    batches = LengthBatches(lengths, 400, "tokens", sorted_together=10)
    first, second = (
        [tuple(sorted(batches.batch(step).tolist())) for step in range(batches.steps(epoch), batches.steps(epoch + 1))]
        for epoch in (0, 1)
    )
    assert len({*first} & {*second}) < len(first) / 20
    assert not np.array_equal(batches.batch(0), LengthBatches(lengths, 400, "tokens", 1, 10).batch(0))
    longest = [int(lengths[[*rows]].max()) for rows in first]
    neighbours = np.corrcoef(longest[:-1], longest[1:])[0, 1]
    assert abs(neighbours) < 0.3  # sorted, it would be near 1; 0.08 is one standard deviation


def test_the_order_stays_what_it_was() -> None:
    """A run that was started with an older version, or on another machine, resumes with the same batches."""
    batches = LengthBatches(some_lengths(50), 90, "tokens", seed=5)
    flat = np.concatenate([np.append(batches.batch(step), NOTHING) for step in range(40)]).astype("<i8")
    assert hashlib.sha256(flat.tobytes()).hexdigest()[:16] == "e8cd18fd59eaba60"


def test_noise_mixes_and_pads_more() -> None:
    lengths = some_lengths(3000)
    shares = []
    for noise in (0, 2, 8):
        batches = LengthBatches(lengths, 400, "tokens", noise=noise)
        shares.append(padding(lengths, [batches.batch(step) for step in range(batches.steps(1))]))
    assert shares == sorted(shares)
    shuffled = LengthBatches(lengths, 400, "tokens", sorted_together=1)
    assert shares[-1] < padding(lengths, [shuffled.batch(step) for step in range(shuffled.steps(1))])


@pytest.mark.parametrize(("unit", "size"), UNITS)
@pytest.mark.parametrize("world", [1, 2, 5])
def test_evaluation_takes_each_row_once_and_restores_the_order(unit: Unit, size: int, world: int) -> None:
    lengths = some_lengths()
    shares = [evaluation_batches(lengths, size, unit, rank, world) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    batches = [*chain.from_iterable(shares)]
    results = [[f"row {row}" for row in rows.tolist()] for rows in batches]
    assert restored(batches, results, len(lengths)) == [f"row {row}" for row in range(len(lengths))]
    assert sum(row != NOTHING for rows in batches for row in rows.tolist()) == len(lengths)
    with pytest.raises(ValueError, match="of 200 rows have a result"):
        restored(batches[1:], results[1:], len(lengths))


@given(seed=st.integers(0, 2**32), rows=st.integers(1, 120), most=st.integers(1, 9), spare=st.integers(0, 20))
def test_snug_batches_hold_nearly_no_padding(seed: int, rows: int, most: int, spare: int) -> None:
    lengths = some_lengths(rows, 1, seed)
    batches = snug_batches(lengths, most, tokens=100, spare=spare)
    assert sorted(row for batch in batches for row in batch.tolist()) == [*range(rows)]
    for batch in batches:
        sizes = lengths[batch]
        assert len(batch) == 1 or (len(batch) <= most and len(batch) * sizes.max() <= 100)
        assert (sizes.max() - sizes).sum() <= spare
    firsts = [int(lengths[batch].max()) for batch in batches]
    assert firsts == sorted(firsts, reverse=True)


def test_batches_are_as_large_as_they_may_be() -> None:
    found = [batch.tolist() for batch in snug_batches(np.array([5, 9, 5, 8, 5]), rows=2, tokens=18, spare=1)]
    assert found == [[1, 3], [4, 2], [0]]


def test_bad_input() -> None:
    lengths = some_lengths()
    with pytest.raises(ValueError, match="row 4 has 91 tokens, more than the 90 of a batch"):
        LengthBatches(np.array([1, 2, 3, 91, 4]), 90, "tokens")
    with pytest.raises(ValueError, match="more than the 30 of a batch"):
        evaluation_batches(lengths, 30, "tokens")
    with pytest.raises(ValueError, match="no rows"):
        LengthBatches(np.empty(0, np.int64), 90)
    with pytest.raises(ValueError, match=r"shape \(n,\) or \(n, 2\), got \(3, 3\)"):
        LengthBatches(np.ones((3, 3), np.int64), 90)
    with pytest.raises(ValueError, match="size = 0 must be above 0"):
        LengthBatches(lengths, 0)
    with pytest.raises(ValueError, match="step must be at least 0, got -1"):
        LengthBatches(lengths, 9).batch(-1)


def test_little_of_multi30k_is_padding(data_root: Path) -> None:
    """6 % without noise, 8 % with it, where batches of random sentences are half padding."""
    pairs = load_pairs("multi30k", root=data_root).train
    texts = [*pairs.source, *pairs.target]
    tokenizer = choose_tokenizer("bpe", texts, pairs.fingerprint, 8000, data_root)
    both = encode_all(tokenizer, texts, after=[0], root=data_root).lengths.reshape(2, -1).T
    for noise, least, most in ((0, 0.02, 0.075), (1, 0.04, 0.10)):
        batches = LengthBatches(both, 4096, "tokens", noise=noise)
        assert least < padding(both, [batches.batch(step) for step in range(batches.steps(1))]) < most
    assert padding(both, evaluation_batches(both, 4096, "tokens")) < 0.05
