"""Windows: every token once an epoch, the whole validation text, the same for any number of processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from text.corpus.load import load_corpus
from text.corpus.windows import IGNORED, Batch, TrainingWindows, WindowOrder, validation_batches

TOKENS = np.arange(1000, dtype=np.uint16)


def joined(batches: list[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    ids, targets = zip(*batches, strict=True)
    return torch.cat(ids), torch.cat(targets)


@pytest.mark.parametrize("order", ["shuffled", "random"])
def test_a_batch_holds_windows_and_the_tokens_after_them(order: WindowOrder) -> None:
    windows = TrainingWindows(TOKENS, context=16, batch_size=12, seed=1, order=order)
    ((ids, targets),) = windows.batch(step=5)
    for tensor in (ids, targets):
        assert tensor.shape == (12, 16)
        assert tensor.dtype == torch.int64
        assert tensor.is_contiguous()
    assert torch.equal(ids, ids[:, :1] + torch.arange(16))
    assert torch.equal(targets, ids + 1)


@given(st.integers(2, 200), st.integers(1, 50), st.integers(1, 30), st.integers(0, 5))
def test_an_epoch_takes_every_token_once_except_at_the_ends(
    length: int, context: int, batch_size: int, seed: int
) -> None:
    context = min(context, length - 1)
    windows = TrainingWindows(np.arange(length), context, batch_size, seed)
    steps = -(-2 * windows.items // batch_size)
    ids, _ = joined([windows.batch(step)[0] for step in range(steps)])
    for epoch in (0, 1):
        taken = sorted(ids[epoch * windows.items : (epoch + 1) * windows.items].flatten().tolist())
        assert taken == list(range(taken[0], taken[-1] + 1))  # a run of tokens, each of them once
        assert length - len(taken) <= 2 * context


def test_every_epoch_starts_its_tiles_at_another_offset() -> None:
    """Every offset occurs: over the epochs a window begins at each token (but for the ends)."""
    windows = TrainingWindows(TOKENS, context=8, batch_size=124)
    assert windows.items == 124
    offsets = {int(windows.batch(epoch)[0][0].min()) for epoch in range(100)}
    assert offsets == set(range(8))


def test_a_text_of_one_window_is_enough_and_one_less_is_not() -> None:
    for order in ("shuffled", "random"):
        ((ids, targets),) = TrainingWindows(np.arange(9), 8, 2, order=order).batch(3)
        assert ids.tolist() == [list(range(8))] * 2
        assert targets.tolist() == [list(range(1, 9))] * 2
    with pytest.raises(ValueError, match="the training text has 8 tokens, a context of 8"):
        TrainingWindows(np.arange(8), 8, 2)
    with pytest.raises(ValueError, match="the validation text has 8 tokens, a context of 8"):
        validation_batches(np.arange(8), 8, 2)


@pytest.mark.parametrize("order", ["shuffled", "random"])
@pytest.mark.parametrize(("world", "accumulate"), [(1, 4), (2, 1), (2, 3), (12, 1), (3, 2)])
def test_any_number_of_processes_shares_the_same_global_batch(world: int, accumulate: int, order: WindowOrder) -> None:
    windows = TrainingWindows(TOKENS, context=16, batch_size=12, seed=4, order=order)
    for step in (0, 5, 6, 100):
        alone, _ = joined(windows.batch(step))
        shares = [windows.batch(step, rank, world, accumulate) for rank in range(world)]
        together, targets = joined([micro_batch for share in shares for micro_batch in share])
        assert sorted(together[:, 0].tolist()) == sorted(alone[:, 0].tolist())
        assert torch.equal(targets, together + 1)


def test_a_step_does_not_depend_on_the_steps_before_it() -> None:
    windows = TrainingWindows(TOKENS, context=16, batch_size=12, seed=4)
    forwards = [windows.batch(step)[0][0] for step in range(20)]
    fresh = TrainingWindows(TOKENS, context=16, batch_size=12, seed=4)
    for step in reversed(range(20)):
        assert torch.equal(fresh.batch(step)[0][0], forwards[step])
    assert not torch.equal(TrainingWindows(TOKENS, 16, 12, seed=5).batch(0)[0][0], forwards[0])


def test_random_windows_begin_anywhere() -> None:
    windows = TrainingWindows(np.arange(20), context=4, batch_size=400, order="random")
    ((ids, _),) = windows.batch(0)
    assert set(ids[:, 0].tolist()) == set(range(16))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"order": "sorted"}, "order = 'sorted'"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"context": 0}, "context must be at least 1, got 0"),
    ],
)
def test_bad_windows_are_refused(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TrainingWindows(**({"tokens": TOKENS, "context": 16, "batch_size": 12} | arguments))


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be a multiple of 5 .*got 12"):
        TrainingWindows(TOKENS, 16, 12).batch(0, rank=0, world=5)


@given(st.integers(2, 300), st.integers(1, 40), st.integers(1, 9), st.integers(1, 4))
def test_validation_counts_every_target_exactly_once(length: int, context: int, batch_size: int, world: int) -> None:
    context = min(context, length - 1)
    tokens = np.arange(length, dtype=np.uint16)
    ranks = [list(validation_batches(tokens, context, batch_size, rank, world)) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    for ids, targets in (batch for batches in ranks for batch in batches):
        assert ids.shape == targets.shape == (batch_size, context)
        assert ids.dtype == targets.dtype == torch.int64
        assert 0 <= ids.min() <= ids.max() < length
        assert torch.equal(targets[targets != IGNORED], ids[targets != IGNORED] + 1)
    _, targets = joined([batch for batches in ranks for batch in batches])
    assert sorted(targets[targets != IGNORED].tolist()) == list(range(1, length))


def test_validation_keeps_the_order_of_the_text_and_full_contexts() -> None:
    ids, targets = joined(list(validation_batches(TOKENS, context=64, batch_size=4)))
    assert ids[:15].flatten().tolist() == list(range(960))
    assert targets[15].tolist() == [*range(961, 1000), *[IGNORED] * 25]


@pytest.mark.parametrize(("batch_size", "rank", "world"), [(0, 0, 1), (4, 2, 2), (4, -1, 1)])
def test_an_impossible_share_of_validation_is_refused(batch_size: int, rank: int, world: int) -> None:
    with pytest.raises(ValueError, match=f"got {batch_size} and {rank}"):
        validation_batches(TOKENS, 16, batch_size, rank, world)


def test_windows_read_a_corpus_on_disk(tmp_path: Path) -> None:
    corpus = load_corpus("pydoc", root=tmp_path)
    ((ids, targets),) = TrainingWindows(corpus.train, 64, 12).batch(0)
    whole = corpus.tokenizer.decode(corpus.train)
    for row, next_row in zip(ids, targets, strict=True):
        text = corpus.tokenizer.decode(row)
        assert text in whole
        assert text[1:] + corpus.tokenizer.decode(next_row[-1:]) in whole
    counted = sum(int((t != IGNORED).sum()) for _, t in validation_batches(corpus.validation, 64, 32))
    assert counted == len(corpus.validation) - 1
