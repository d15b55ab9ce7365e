"""What is drawn for images: the right distributions, independent of each other, from streams that are pinned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from core.training.order import epochs, shuffled
from vision.augmentation.config import AugmentConfig
from vision.augmentation.draws import NAMES, OFFSETS, ONE_SIDED, Array, Draws, UniformNumbers, amounts, draw

MANY = UniformNumbers(seed=0, step=0, images=40_000)


def drawn(config: AugmentConfig, numbers: UniformNumbers = MANY, side: int = 32) -> Draws:
    return draw(config, numbers, 1000, (side, side), side)


def assert_uniform(values: Array, number: int) -> None:
    """Each of 0..number - 1 in its share, within 5 standard deviations of a binomial count."""
    share = 1 / number
    counts = np.bincount(values, minlength=number)
    assert len(counts) == number
    assert np.abs(counts - len(values) * share).max() < 5 * np.sqrt(len(values) * share * (1 - share))


def assert_fraction(chosen: Array, fraction: float) -> None:
    """As many are chosen as should be, within 5 standard deviations of a binomial count."""
    assert abs(chosen.sum() - len(chosen) * fraction) < 5 * np.sqrt(len(chosen) * fraction * (1 - fraction))


def distance(one: Array, other: Array) -> float:
    """Kolmogorov-Smirnov: the greatest difference of two samples' distribution functions."""
    at = np.sort(np.concatenate((one, other)))
    below = [np.searchsorted(np.sort(sample), at, side="right") / len(sample) for sample in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


def test_numbers_are_uniform_and_independent_between_images_and_numbers() -> None:
    numbers = MANY("anything", 2)
    assert numbers.shape == (40_000, 2)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert_uniform((numbers * 20).astype(int).flatten(), 20)
    columns = [numbers[:, 0], numbers[:, 1], np.roll(numbers[:, 0], 1)]
    assert np.abs(np.corrcoef(columns) - np.eye(3)).max() < 5 / np.sqrt(40_000)


def test_numbers_are_different_for_each_seed_step_and_purpose() -> None:
    places = [(seed, step, purpose) for seed in (0, 1) for step in (0, 1) for purpose in ("flip", "shift")]
    numbers = {UniformNumbers(seed, step, 4)(purpose).tobytes() for seed, step, purpose in places}
    assert len(numbers) == len(places)


def test_numbers_are_pinned() -> None:
    """Checkpoints outlive releases of NumPy: these values must never change."""
    expected = [[0.9804527764754194, 0.29768631955858904], [0.6616598935601139, 0.48430675622367436]]
    assert UniformNumbers(1337, 5, 2)("box", 2).tolist() == expected


def test_shifts_are_uniform_along_both_axes() -> None:
    offset = drawn(AugmentConfig(crop="shift", shift=3)).offset
    assert_uniform(((offset + 3) @ [7, 1]), 49)


def test_random_flips_are_fair() -> None:
    assert_fraction(drawn(AugmentConfig(flip="random")).flip, 0.5)


def test_alternating_flips_start_at_random_and_change_with_every_epoch() -> None:
    config = AugmentConfig(flip="alternating")
    items, steps, batch_size = 1000, 42, 96  # just over four epochs; batches straddle them
    flips = np.full((5, items), -1)
    for step in range(steps):
        flip = draw(config, UniformNumbers(7, step, batch_size), items, (32, 32), 32).flip
        flips[epochs(step, batch_size, items), shuffled(7, step, batch_size, items)] = flip
    assert_fraction(flips[0] == 1, 0.5)
    assert (flips[0] + flips[1] == 1).all()
    assert (flips[:2] == flips[2:4]).all()


@pytest.mark.parametrize("least", [0.08, 0.5])
def test_boxes_are_distributed_as_torchvisions(least: float) -> None:
    box = drawn(AugmentConfig(crop="resized", min_area=least)).box[:4000]
    image, ratio = torch.empty(3, 32, 32), [3 / 4, 4 / 3]
    theirs = np.array([RandomResizedCrop.get_params(image, [least, 1.0], ratio) for _ in range(4000)])
    for mine, other in (
        (box[:, 2] * box[:, 3], theirs[:, 2] * theirs[:, 3]),
        (box[:, 3] / box[:, 2], theirs[:, 3] / theirs[:, 2]),
        (box[:, 0], theirs[:, 0]),
        (box[:, 1], theirs[:, 1]),
    ):
        assert distance(mine, other) < 1.95 * np.sqrt(2 / 4000)  # p = 1e-3
    assert (box[:, :2] >= 0).all()
    assert (box[:, :2] + box[:, 2:] <= 32).all()
    assert (box[:, 2:] >= 1).all()


def test_an_image_that_no_rectangle_fits_is_taken_whole() -> None:
    box = draw(AugmentConfig(crop="resized", min_area=1.0), MANY, 1000, (10, 40), 32).box
    assert (box == [0, 0, 10, 40]).all()


def test_operations_and_their_signs_are_uniform_in_every_place() -> None:
    both = drawn(AugmentConfig(operations=2))
    assert_uniform((both.kinds @ [len(NAMES), 1]), len(NAMES) ** 2)
    for name in ("rotate", "translate_x"):
        assert_fraction(both.amounts[both.kinds == NAMES.index(name)] > 0, 0.5)


@pytest.mark.parametrize("magnitude", [0, 9, 17, 30])
def test_amounts_are_torchvisions_magnitudes(magnitude: int) -> None:
    """Its magnitude 0..30 is a strength of 0..10; translations are fractions, and inversion starts at 256."""
    from torchvision.transforms.v2 import RandAugment

    names = {"saturation": "Color", "autocontrast": "AutoContrast"}
    kinds, signs = np.arange(len(NAMES))[:, None], np.full((len(NAMES), 1), -1)
    for name, amount in zip(NAMES, amounts(kinds, signs, magnitude / 3)[:, 0], strict=True):
        theirs, signed = RandAugment._AUGMENTATION_SPACE[
            names.get(name, "".join(part.capitalize() for part in name.split("_")))
        ]
        table = theirs(31, 32, 32)
        expected = 0.0 if table is None else float(table[magnitude])
        start = 1 if name in ("brightness", "saturation", "contrast", "sharpness") else 0
        scale = {"rotate": np.pi / 180, "translate_x": 1 / 32, "translate_y": 1 / 32, "solarize": 256}.get(name, 1)
        amount = amount.round() if name == "posterize" else amount
        assert signed == (table is not None and name not in ONE_SIDED)
        assert amount == pytest.approx(start + (-1 if signed else 1) * scale * expected, abs=1e-5)


def test_cutouts_are_squares_centred_anywhere() -> None:
    erased = drawn(AugmentConfig(erase="cutout", erase_size=8, erase_probability=0.5)).erased
    erased = erased[erased.any(1)]
    assert (erased[:, 2:] == 8).all()
    assert_uniform((erased[:, :2] + 4) @ [32, 1], 32 * 32)


def test_erased_rectangles_have_the_areas_and_sides_of_the_paper() -> None:
    erased = drawn(AugmentConfig(erase="random", erase_probability=1.0), side=224).erased
    area, aspect = erased[:, 2] * erased[:, 3] / 224**2, erased[:, 3] / erased[:, 2]
    assert area.min() > 0.019
    assert area.max() < 0.336
    assert distance(area, np.linspace(0.02, 1 / 3, 40_000)) < 0.02
    assert np.quantile(np.log(aspect), [0, 0.5, 1]) == pytest.approx([-1.204, 0, 1.204], abs=0.05)
    assert (erased[:, :2] >= 0).all()
    assert (erased[:, :2] + erased[:, 2:] <= 224).all()


@pytest.mark.parametrize("kind", ["cutout", "random"])
def test_as_many_are_erased_as_should_be(kind: str) -> None:
    erased = drawn(AugmentConfig(erase=kind, erase_probability=0.25)).erased  # type: ignore[arg-type]
    assert_fraction(erased.any(1), 0.25)


def test_noise_begins_anywhere_in_its_table() -> None:
    assert_uniform(drawn(AugmentConfig()).noise * 16 // OFFSETS, 16)


def test_one_thing_switched_on_changes_nothing_that_another_draws() -> None:
    few = UniformNumbers(0, 3, 50)
    all_on = AugmentConfig(crop="shift", flip="random", operations=2, erase="random")
    for part in (
        AugmentConfig(crop="shift"),
        AugmentConfig(flip="random"),
        AugmentConfig(operations=2),
        AugmentConfig(erase="random"),
    ):
        alone, together = drawn(part, few), drawn(all_on, few)
        same = [np.array_equal(getattr(alone, n), getattr(together, n)) for n in ("offset", "flip", "kinds", "erased")]
        assert same.count(True) == 1


def test_the_first_images_draw_the_same_in_a_larger_batch() -> None:
    config = AugmentConfig(crop="resized", flip="random", operations=2, erase="random")
    small, large = drawn(config, UniformNumbers(0, 3, 20)), drawn(config, UniformNumbers(0, 3, 50))
    for name in ("box", "flip", "kinds", "amounts", "erased", "noise"):
        np.testing.assert_array_equal(getattr(small, name), getattr(large, name)[:20])
