"""Every image once an epoch or an evaluation, however many processes share a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision.data.batches import Images, TrainingImages, evaluation_batches


@pytest.fixture
def numbered() -> Images:
    """37 images, each its number."""
    numbers = torch.arange(37)
    return Images(numbers.byte().view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous(), numbers % 3)


def numbers_of(batch: tuple[torch.Tensor, torch.Tensor]) -> list[int]:
    images, labels = batch
    numbers = images[:, 0, 0, 0].tolist()
    assert images.dtype == torch.uint8
    assert labels.tolist() == [n % 3 for n in numbers]
    return numbers


def test_every_image_appears_once_an_epoch(numbered: Images) -> None:
    batches = TrainingImages(numbered, batch_size=5, seed=7)
    numbers = [n for step in range(37) for n in numbers_of(batches.batch(step)[0])]
    for epoch in range(5):
        assert sorted(numbers[37 * epoch : 37 * (epoch + 1)]) == list(range(37))
    assert numbers[:37] != numbers[37:74]


@pytest.mark.parametrize(("world", "accumulate"), [(1, 4), (2, 1), (3, 2), (2, 3)])
def test_any_number_of_processes_and_micro_batches_makes_the_same_global_batch(
    world: int, accumulate: int, numbered: Images
) -> None:
    alone = TrainingImages(numbered, 12, seed=1)
    ranks = [TrainingImages(numbered, 12, seed=1) for _ in range(world)]
    for step in (0, 1, 2, 7, 3):
        parts = [ranks[rank].batch(step, rank, world, accumulate) for rank in range(world)]
        assert all(len(part) == accumulate for part in parts)
        numbers = [n for part in parts for micro in part for n in numbers_of(micro)]
        assert sorted(numbers) == sorted(numbers_of(alone.batch(step)[0]))


def test_a_batch_is_a_pure_function_of_its_step(numbered: Images) -> None:
    straight, jumping = (TrainingImages(numbered, 8, seed=2) for _ in range(2))
    expected = {step: numbers_of(straight.batch(step)[0]) for step in range(12)}
    for step in (11, 0, 0, 1, 5, 6, 2):
        assert numbers_of(jumping.batch(step)[0]) == expected[step]


def test_bad_batch_sizes_are_refused(numbered: Images) -> None:
    with pytest.raises(ValueError, match="batch_size .* 0"):
        TrainingImages(numbered, 0)
    with pytest.raises(
        ValueError, match=r"batch_size must be a multiple of 6 \(3 processes x 2 micro-batches\), got 8"
    ):
        TrainingImages(numbered, 8).batch(0, 0, 3, 2)


@pytest.mark.parametrize("world", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_evaluation_takes_every_image_once_over_all_processes(world: int, batch_size: int, numbered: Images) -> None:
    numbers = []
    for rank in range(world):
        batches = [numbers_of(batch) for batch in evaluation_batches(numbered, batch_size, rank, world)]
        assert all(0 < len(batch) <= batch_size for batch in batches)
        numbers += [n for batch in batches for n in batch]
    assert numbers == list(range(37))


def test_evaluation_of_nothing_is_nothing(numbered: Images) -> None:
    assert list(evaluation_batches(numbered.subset(np.arange(0)), 4)) == []
    with pytest.raises(ValueError, match=r"rank in 0\.\.1, got 4 and 2"):
        evaluation_batches(numbered, 4, 2, 2)


def test_a_sample_is_spread_over_all_images(numbered: Images) -> None:
    assert numbered.sample(4)[:, 0, 0, 0].tolist() == [0, 9, 18, 27]
    assert len(numbered.sample(1000)) == 37
