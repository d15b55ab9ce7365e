"""Mixup and CutMix: soft targets that say what an image is made of, and nothing left to chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vision.augmentation.augment import AugmentConfig
from vision.augmentation.mixing import Mixing

PLACE = (3, 0, 0)


def marked(number: int, classes: int) -> tuple[Tensor, Tensor]:
    """Images that are 1 in the channel of their own number, and their labels."""
    images = torch.eye(number).view(number, number, 1, 1).expand(-1, -1, 16, 16).clone()
    return images, torch.arange(number) % classes


@given(
    half=st.integers(1, 6),
    step=st.integers(0, 1000),
    alphas=st.sampled_from([(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)]),
    smoothing=st.sampled_from([0.0, 0.1]),
)
def test_targets_say_how_much_of_each_image_there_is(
    half: int, step: int, alphas: tuple[float, float], smoothing: float
) -> None:
    images, labels = marked(2 * half, classes=20)
    config = AugmentConfig(mixup=alphas[0], cutmix=alphas[1], smoothing=smoothing)
    mixed, targets = Mixing(config, 20, seed=0).mix(images, labels, (step, 0, 0))
    assert mixed.dtype == targets.dtype == torch.float32
    torch.testing.assert_close(targets.sum(1), torch.ones(2 * half))
    parts = mixed.mean((2, 3))  # (B, B): how much of an image comes from each image
    expected = torch.nn.functional.pad(parts, (0, 20 - 2 * half)) * (1 - smoothing) + smoothing / 20
    torch.testing.assert_close(targets, expected)


def test_cutmix_puts_in_one_rectangle() -> None:
    images, labels = marked(8, classes=8)
    mixed, _ = Mixing(AugmentConfig(cutmix=1.0), 8, seed=1).mix(images, labels, PLACE)
    own = mixed[torch.arange(8), torch.arange(8)]  # (8, 16, 16)
    assert set(own.unique().tolist()) == {0.0, 1.0}
    rows, columns = (own[0] == 0).any(1), (own[0] == 0).any(0)
    assert torch.equal(own[0] == 0, rows[:, None] & columns)
    assert torch.equal(own, own[:1].expand(8, -1, -1))


def test_the_probabilities_are_kept() -> None:
    config = AugmentConfig(mixup=1.0, cutmix=1.0, mix_probability=0.6, switch=0.25)
    mixing, kinds = Mixing(config, 2, seed=0), {"none": 0, "mixup": 0, "cutmix": 0}
    for step in range(1000):
        images, labels = marked(2, classes=2)
        mixed, _ = mixing.mix(images, labels, (step, 0, 0))
        values = mixed.unique().tolist()
        fractions = any(0 < value < 1 for value in values)
        whole = torch.equal(mixed, marked(2, classes=2)[0])
        kinds["mixup" if fractions else "none" if whole else "cutmix"] += 1
    assert kinds["none"] == pytest.approx(400, abs=80)  # 5 standard deviations; few rectangles are empty
    assert kinds["mixup"] == pytest.approx(450, abs=80)
    assert kinds["cutmix"] == pytest.approx(150, abs=60)


def test_mixing_is_a_function_of_seed_step_rank_and_micro_batch() -> None:
    def mixed(seed: int, step: int, rank: int, micro: int) -> bytes:
        images, targets = Mixing(AugmentConfig(mixup=1.0), 4, seed).mix(*marked(4, 4), (step, rank, micro))
        return images.numpy().tobytes() + targets.numpy().tobytes()

    places = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    first = [mixed(*place) for place in places]
    np.random.seed(123)
    assert [mixed(*place) for place in places] == first
    assert len(set(first)) == len(places)


def test_numpys_own_generator_goes_on_as_if_nothing_had_been() -> None:
    expected = np.random.RandomState(0).rand(5)
    drawn = [np.random.rand()]
    mixing = Mixing(AugmentConfig(mixup=1.0, cutmix=1.0), 4, seed=0)
    mixing.mix(*marked(4, 4), PLACE)
    drawn.append(np.random.rand())
    with pytest.raises(RuntimeError):
        mixing.mix(marked(4, 4)[0], torch.tensor([0, 1, 2, 9]), PLACE)
    np.testing.assert_array_equal([*drawn, *np.random.rand(3)], expected)


def test_an_odd_number_of_images_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size makes micro-batches of 5 images; .* need an even number"):
        Mixing(AugmentConfig(mixup=1.0), 8, seed=0).mix(*marked(5, 8), PLACE)


def test_targets_without_mixing_are_smoothed_and_of_the_same_kind() -> None:
    mixing = Mixing(AugmentConfig(mixup=1.0, smoothing=0.2), 5, seed=0)
    soft = mixing.soft(torch.tensor([3, 0, 4]))  # also of an odd number
    expected = torch.full((3, 5), 0.04)
    expected[torch.arange(3), torch.tensor([3, 0, 4])] = 0.84
    torch.testing.assert_close(soft, expected)
    assert soft.dtype == mixing.mix(*marked(4, 4), PLACE)[1].dtype
