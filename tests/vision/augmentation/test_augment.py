"""Varied images: each by itself, the same for any number of processes, and no other when a run is taken up again."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from core.training.order import Share
from vision.augmentation.augment import Augment, recolour, warp
from vision.augmentation.config import AugmentConfig
from vision.augmentation.draws import NAMES, Draws
from vision.data.batches import Images, TrainingImages
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig

ITEMS, BATCH = 200, 24
CLASSES = tuple("abcdefghij")
PREPARATION = Preparation(CLASSES, 3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), side=32)
MODEL = ViTConfig(image_size=32, classes=10)
BASIC = AugmentConfig(crop="shift", flip="alternating")
STRONG = replace(BASIC, operations=2, erase="random", smoothing=0.1)
RESIZED = AugmentConfig(crop="resized", flip="random", operations=1, strength=5.0, erase="cutout")
MIXED = replace(STRONG, mixup=0.8, cutmix=1.0, plain_end=0.25)
RECIPES = {"none": AugmentConfig(), "basic": BASIC, "strong": STRONG, "resized": RESIZED}


@pytest.fixture
def images() -> Images:
    """Smooth images, all of them different."""
    coarse = torch.rand(ITEMS, 3, 5, 5)
    pixels = 255 * torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    return Images(pixels.to(torch.uint8), torch.arange(ITEMS) % 10)


def augment(config: AugmentConfig, size: int = 32, seed: int = 0) -> Augment:
    return Augment(config, PREPARATION, replace(MODEL, image_size=size), BATCH, ITEMS, seed)


def varied(config: AugmentConfig, images: Images, step: int = 0, rank: int = 0, world: int = 1, accumulate: int = 1):
    batch = TrainingImages(images, BATCH).batch(step, rank, world, accumulate)
    return augment(config)(batch, step, Share(rank, world, accumulate))


def stored(images: Tensor) -> Tensor:
    """Normalised images as pixels again, 0..255."""
    std, mean = torch.tensor(PREPARATION.std).view(3, 1, 1), torch.tensor(PREPARATION.mean).view(3, 1, 1)
    return 255 * (images * std + mean)


@pytest.mark.parametrize("size", [24, 32, 48])
def test_by_default_images_are_as_in_evaluation(images: Images, size: int) -> None:
    batch = [(images.pixels[:BATCH], images.labels[:BATCH])]
    [(result, targets)] = augment(AugmentConfig(), size)(batch, step=4)
    assert torch.equal(result, PREPARATION(batch[0][0], size))
    assert torch.equal(targets, batch[0][1])


@pytest.mark.parametrize("size", [24, 32, 48])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_result_is_what_the_model_takes(images: Images, recipe: str, size: int) -> None:
    pixels, labels = images.pixels[:BATCH].clone(), images.labels[:BATCH]
    [(result, targets)] = augment(RECIPES[recipe], size)([(pixels, labels)], step=0)
    assert result.shape == (BATCH, 3, size, size)
    assert result.dtype == torch.float32
    assert result.is_contiguous()
    assert result.isfinite().all()
    assert torch.equal(targets, labels)
    assert torch.equal(pixels, images.pixels[:BATCH])  # the stored images stay as they are


def test_a_crop_may_come_from_anywhere_though_evaluation_takes_the_middle(images: Images) -> None:
    """With the whole image as the only crop, a border that evaluation cuts off is there."""
    middle, pixels = replace(PREPARATION, crop=0.75), images.pixels[:BATCH].clone()
    pixels[:, :, :4] = 0
    whole = AugmentConfig(crop="resized", min_area=1.0)
    [(result, _)] = Augment(whole, middle, MODEL, BATCH, ITEMS)([(pixels, images.labels[:BATCH])], step=0)
    assert (stored(result)[:, :, 0] < 0.01).all()
    [(result, _)] = Augment(AugmentConfig(), middle, MODEL, BATCH, ITEMS)([(pixels, images.labels[:BATCH])], step=0)
    assert torch.equal(result, middle(pixels, 32))


def test_grey_images_are_varied_too(images: Images) -> None:
    grey = Preparation(CLASSES, 1, (0.5,), (0.2,), 32)
    pixels = images.pixels[:BATCH, :1]
    [(result, _)] = Augment(STRONG, grey, MODEL, BATCH, ITEMS)([(pixels, images.labels[:BATCH])], step=1)
    assert result.shape == (BATCH, 1, 32, 32)
    assert (result != grey(pixels, 32)).flatten(1).any(1).sum() >= BATCH - 2


@pytest.mark.parametrize("recipe", ["basic", "strong", "resized"])
@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 2), (2, 3)])
def test_processes_and_micro_batches_augment_images_as_one_would(
    images: Images, recipe: str, world: int, accumulate: int
) -> None:
    config = RECIPES[recipe]
    for step in (0, 8):  # the ninth batch straddles two epochs
        [(expected, labels)] = varied(config, images, step)
        shares = [varied(config, images, step, rank, world, accumulate) for rank in range(world)]
        in_order = [shares[rank][micro] for micro in range(accumulate) for rank in range(world)]
        torch.testing.assert_close(torch.cat([x for x, _ in in_order]), expected, atol=1e-5, rtol=0)
        assert torch.equal(torch.cat([y for _, y in in_order]), labels)


@pytest.mark.parametrize("config", [STRONG, RESIZED, MIXED], ids=["strong", "resized", "mixed"])
def test_a_step_is_a_function_of_the_seed_and_its_number(images: Images, config: AugmentConfig) -> None:
    batch = [(images.pixels[:BATCH], images.labels[:BATCH])]

    def at(step: int, seed: int = 0) -> bytes:
        [(result, targets)] = augment(config, seed=seed)(batch, step)
        return result.numpy().tobytes() + targets.numpy().tobytes()

    before = np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()  # type: ignore[union-attr]
    first = at(5)
    after = np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()  # type: ignore[union-attr]
    assert before == after
    torch.manual_seed(7)
    np.random.seed(7)
    assert at(5) == first
    assert len({first, at(6), at(5, seed=1)}) == 3


@pytest.mark.parametrize("recipe", ["basic", "strong", "resized"])
def test_an_image_is_varied_by_itself(images: Images, recipe: str) -> None:
    """Another image in its place leaves the others as they were; the same image everywhere is varied differently."""
    vary, labels = augment(RECIPES[recipe]), images.labels[:BATCH]
    pixels = images.pixels[:BATCH].clone()
    [(before, _)] = vary([(pixels, labels)], step=2)
    pixels[7] = 255 - pixels[7]
    [(after, _)] = vary([(pixels, labels)], step=2)
    changed = (before != after).flatten(1).any(1)
    assert changed.nonzero().flatten().tolist() == [7]
    [(copies, _)] = vary([(images.pixels[:1].expand(BATCH, -1, -1, -1), labels)], step=2)
    assert len(copies.flatten(1).unique(dim=0)) >= BATCH - 4


def test_alternating_images_are_mirrored_every_other_epoch(images: Images) -> None:
    config, flips = AugmentConfig(flip="alternating"), torch.full((3, ITEMS), -1)
    prepared = PREPARATION(images.pixels, 32)
    named = Images(images.pixels, torch.arange(ITEMS))
    for step in range(25):  # three epochs
        for result, index in varied(config, named, step, accumulate=2):
            mirrored = (result == prepared[index].flip(3)).flatten(1).all(1)
            assert (mirrored | (result == prepared[index]).flatten(1).all(1)).all()
            for image, flipped in zip(index.tolist(), mirrored.tolist(), strict=True):
                epoch = int((flips[:, image] >= 0).sum())
                flips[epoch, image] = flipped
    assert (flips[0] + flips[1] == 1).all()
    assert torch.equal(flips[0], flips[2])
    assert 65 < flips[0].sum() < 135  # 5 standard deviations


@pytest.mark.parametrize(("operations", "strength"), [(0, 9.0), (2, 0.0)])
def test_no_operations_or_no_strength_is_no_change(images: Images, operations: int, strength: float) -> None:
    plain = varied(BASIC, images, step=3)[0][0]
    assert torch.equal(varied(replace(BASIC, operations=operations, strength=strength), images, step=3)[0][0], plain)


def one_operation(name: str, number: int, amount: float) -> Draws:
    """The same operation for all images."""
    none = np.zeros((number, 4), np.int64)
    kinds = np.full((number, 1), NAMES.index(name))
    return Draws(none, none, none, kinds, np.full((number, 1), amount, np.float32), none, none, none)


@pytest.mark.parametrize("name", NAMES)
def test_every_operation_is_carried_out(images: Images, name: str) -> None:
    amount = {"posterize": 4, "solarize": 60}.get(name, 0.25)
    pixels, drawn = images.pixels[:4], one_operation(name, 4, amount)
    images_out = warp(PREPARATION(recolour(pixels, drawn), 32), drawn)
    same = torch.equal(images_out, PREPARATION(pixels, 32))
    assert same == (name == "identity")


def test_operations_are_carried_out_in_the_order_drawn(images: Images) -> None:
    pixels = images.pixels[:2]
    kinds = np.array([(NAMES.index("solarize"), NAMES.index("brightness"))] * 2)
    kinds[1] = kinds[1, ::-1]
    amounts = np.array([(128, 0.3), (0.3, 128)], np.float32)
    none = np.zeros((2, 4), np.int64)
    result = recolour(pixels, Draws(none, none, none, kinds, amounts, none, none, none)).float()
    first, second = pixels.float()
    expected = torch.stack((torch.where(first >= 128, 255 - first, first) * 0.3, second * 0.3))
    torch.testing.assert_close(result, expected, atol=0.501, rtol=0)  # rounded once, to the nearest


def test_operations_reach_only_their_images_and_real_photographs_stay_in_range(data_root: Path) -> None:
    from torchvision.datasets import CIFAR10

    real = CIFAR10(str(data_root / "cifar10"))
    pixels = torch.from_numpy(real.data[:BATCH]).permute(0, 3, 1, 2).contiguous()
    config = AugmentConfig(operations=2)
    unchanged = moved_out = 0
    for step in range(20):
        [(result, _)] = augment(config)([(pixels, torch.zeros(BATCH, dtype=torch.int64))], step)
        values = stored(result)
        assert values.min() > -0.1
        assert values.max() < 255.1
        unchanged += int((result == PREPARATION(pixels, 32)).flatten(1).all(1).sum())
        moved_out += int((result == 0).all(1).flatten(1).any(1).sum())
    assert 2 <= unchanged <= 60  # 1 of 196 is twice the identity; autocontrast, say, may find nothing to do
    assert 150 < moved_out < 350  # 1 - (9/14)^2 of 480 draw geometry; most of them show what is outside


def test_cutout_leaves_the_mean_and_random_erasing_noise(images: Images) -> None:
    plain = varied(AugmentConfig(), images)[0][0]
    cut = varied(AugmentConfig(erase="cutout", erase_size=10, erase_probability=1.0), images)[0][0]
    assert (cut[cut != plain] == 0).all()
    assert (cut == 0).all(1).flatten(1).any(1).all()
    noise = []
    for step in range(4):
        plain = varied(AugmentConfig(), images, step)[0][0]
        erased = varied(AugmentConfig(erase="random", erase_probability=1.0), images, step)[0][0]
        noise.append(erased[erased != plain])
    sample = torch.cat(noise)
    assert abs(sample.mean()) < 5 / len(sample) ** 0.5
    assert sample.std() == pytest.approx(1, abs=0.03)
    assert len(sample.unique()) > 0.5 * len(sample)


def test_with_mixing_targets_are_soft_to_the_end(images: Images) -> None:
    batch = [(images.pixels[:BATCH], images.labels[:BATCH])]
    vary = augment(MIXED)
    [(_, mixed)] = vary(batch, step=1, progress=0.74)
    [(result, soft)] = vary(batch, step=1, progress=0.75)
    assert mixed.dtype == soft.dtype == torch.float32
    assert mixed.shape == soft.shape == (BATCH, 10)
    one_hot = torch.nn.functional.one_hot(batch[0][1], 10)
    torch.testing.assert_close(soft, 0.9 * one_hot + 0.01)
    assert (mixed - soft).abs().max() > 0.01
    [(basic, _)] = augment(BASIC)(batch, step=1)
    assert torch.equal(result, basic)


def test_ranks_and_micro_batches_are_mixed_in_ways_of_their_own(images: Images) -> None:
    config = AugmentConfig(mixup=1.0)
    parts = [micro for rank in (0, 1) for micro in varied(config, images, 0, rank, 2, 2)]
    own = [float(targets.max()) for _, targets in parts]
    assert len(set(own)) == 4


def test_too_far_a_shift_is_refused(images: Images) -> None:
    with pytest.raises(ValueError, match="shift = 32 must be below the 32 pixels"):
        varied(AugmentConfig(crop="shift", shift=32), images)


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("crop", "random", "is not one of: none, shift, resized"),
        ("shift", 0, "must be above 0"),
        ("min_area", 0.0, "must be above 0 and at most 1"),
        ("flip", "yes", "is not one of: none, random, alternating"),
        ("operations", -1, "must be at least 0"),
        ("strength", 10.5, "must be at least 0 and at most 10"),
        ("erase", "mean", "is not one of: none, cutout, random"),
        ("erase_size", 0, "must be above 0"),
        ("erase_probability", 1.1, "must be at least 0 and at most 1"),
        ("mixup", -0.1, "must be at least 0"),
        ("cutmix", float("nan"), "must be at least 0"),
        ("mix_probability", -0.5, "must be at least 0 and at most 1"),
        ("switch_probability", 2.0, "must be at least 0 and at most 1"),
        ("smoothing", 1.0, "must be at least 0 and below 1"),
        ("plain_end", float("nan"), "must be at least 0 and at most 1"),
    ],
)
def test_bad_settings_are_refused(field: str, value: object, accepted: str) -> None:
    with pytest.raises(ValueError, match=f"{field} = {value!r} {accepted}"):
        AugmentConfig(**{field: value})  # type: ignore[arg-type]


def test_settings_without_effect_are_named() -> None:
    idle = {"shift", "min_area", "strength", "erase_size", "erase_probability", "mix_probability", "switch_probability"}
    assert set(AugmentConfig().unused()) == idle | {"plain_end"}
    assert set(AugmentConfig(crop="shift", operations=1, erase="cutout").unused()) == {
        "min_area",
        "mix_probability",
        "switch_probability",
    }
    assert set(RESIZED.unused()) == {"shift", "mix_probability", "switch_probability"}
    assert AugmentConfig(operations=2, strength=0.0).unused()["operations"] == "strength = 0 leaves images as they are"
    assert set(AugmentConfig(mixup=1.0).unused()) == idle - {"mix_probability"}
    assert "switch_probability" not in MIXED.unused()
    names = {f.name for f in fields(AugmentConfig)}
    assert set(AugmentConfig().unused()) < names


def test_a_micro_batch_that_cannot_be_paired_is_refused(images: Images) -> None:
    batch = [(images.pixels[:BATCH], images.labels[:BATCH])]
    odd = Augment(replace(MIXED, plain_end=0.0), PREPARATION, MODEL, 3, ITEMS)
    with pytest.raises(ValueError, match="micro-batches of 3 images"):
        odd([(x[:3], y[:3]) for x, y in batch], step=0)
