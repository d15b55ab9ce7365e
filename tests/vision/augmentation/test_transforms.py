"""Batched operations do to each image what torchvision, or a loop over the images, does to it alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from vision.augmentation import transforms
from vision.augmentation.augment import COLOURS
from vision.augmentation.draws import NAMES, OPERATIONS, affine

Operation = Callable[[Tensor, float], Tensor]

# What torchvision has for each operation on colours, from uint8 (C, H, W); and amounts from both ends of its range.
ALONE: dict[str, tuple[Operation, list[float]]] = {
    "brightness": (reference.adjust_brightness, [0.1, 0.6, 1, 1.4, 1.9]),
    "saturation": (reference.adjust_saturation, [0.1, 0.6, 1, 1.4, 1.9]),
    "contrast": (reference.adjust_contrast, [0.1, 0.6, 1, 1.4, 1.9]),
    "sharpness": (reference.adjust_sharpness, [0.1, 0.6, 1, 1.4, 1.9]),
    "posterize": (lambda image, bits: reference.posterize(image, round(bits)), [4, 4.6, 6, 7.4, 8]),
    "solarize": (reference.solarize, [0, 26, 128, 230, 255]),
    "autocontrast": (lambda image, _: reference.autocontrast(image), [0] * 5),
    "equalize": (lambda image, _: reference.equalize(image), [0] * 5),
}


def photographs(number: int, channels: int = 3, height: int = 32, width: int = 32) -> Tensor:
    """Smooth images with grain, each of its own brightness, contrast and tint: uint8 (B, C, H, W)."""
    coarse = F.interpolate(torch.rand(number, channels, 4, 4), size=(height, width), mode="bicubic")
    span, base = torch.rand(2, number, channels, 1, 1)
    grain = 8 * torch.rand(number, channels, height, width)
    return (160 * span * coarse + 90 * base + grain).clamp(0, 255).to(torch.uint8)


@given(
    st.integers(1, 3), st.integers(3, 12), st.integers(3, 12), st.integers(0, 2), st.integers(0, 2**31), st.booleans()
)
def test_shifting_is_padding_and_slicing(
    channels: int, height: int, width: int, most: int, seed: int, whole: bool
) -> None:
    torch.manual_seed(seed)
    pixels = torch.randint(0, 256, (5, channels, height, width), dtype=torch.uint8)
    if whole:  # any type of pixel, not in one piece of memory
        pixels = pixels.float().transpose(0, 1).contiguous().transpose(0, 1)
    offset, flip = torch.randint(-most, most + 1, (5, 2)), torch.rand(5) < 0.5
    result = transforms.shift(pixels, offset, flip)
    assert result.dtype == pixels.dtype
    for image, (down, right), mirrored, one in zip(pixels, offset.tolist(), flip.tolist(), result, strict=True):
        padded = F.pad(image, (most,) * 4, mode="reflect")
        cut = padded[:, most + down :, most + right :][:, :height, :width]
        assert torch.equal(one, cut.flip(2) if mirrored else cut)


@pytest.mark.parametrize("size", [8, 24, 32, 57])
def test_resampling_is_torchvisions_resized_crop(size: int) -> None:
    pixels = photographs(9, height=30, width=40)
    top, left = torch.randint(0, 20, (9,)), torch.randint(0, 30, (9,))
    tall, wide = (30 - top) * torch.rand(9), (40 - left) * torch.rand(9)
    box = torch.stack((top, left, tall.ceil().clamp(min=1), wide.ceil().clamp(min=1)), 1).long()
    flip = torch.arange(9) % 2 == 1
    result = transforms.resample(pixels, box, flip, size)
    assert result.shape == (9, 3, size, size)
    for image, part, mirrored, one in zip(pixels, box.tolist(), flip.tolist(), result, strict=True):
        alone = reference.resized_crop(image.float(), *part, [size, size], antialias=True)
        torch.testing.assert_close(one, alone.flip(2) if mirrored else alone, atol=2e-3, rtol=0)


def test_resampling_the_whole_to_its_own_size_changes_nothing() -> None:
    pixels = photographs(4)
    box = torch.tensor([0, 0, 32, 32]).expand(4, 4)
    same = transforms.resample(pixels, box, torch.zeros(4, dtype=torch.bool), 32)
    torch.testing.assert_close(same, pixels.float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_torchvisions_within_the_rounding_of_a_level(name: str, channels: int) -> None:
    alone, amounts = ALONE[name]
    pixels = photographs(10, channels)
    pixels[4] = 200  # of one value: nothing to stretch or to equalise
    amount = torch.tensor(amounts * 2)
    result = COLOURS[name](pixels.float(), amount.float().view(-1, 1, 1, 1))
    assert result.min() >= 0
    assert result.max() <= 255
    expected = torch.stack([alone(image, one) for image, one in zip(pixels, amount.tolist(), strict=True)])
    roundings = {"posterize": 0, "solarize": 0, "equalize": 0, "brightness": 1, "autocontrast": 1}
    assert (result - expected).abs().max() <= roundings.get(name, 2)  # it also rounds the grey, or the smoothed image
    if name in ("brightness", "saturation", "contrast", "sharpness"):  # of floats it rounds nothing
        floats = torch.stack([alone(image / 255, one) for image, one in zip(pixels, amount.tolist(), strict=True)])
        torch.testing.assert_close(result, 255 * floats, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", COLOURS)
def test_colours_of_an_image_do_not_depend_on_the_others(name: str) -> None:
    images, amount = photographs(6).float(), torch.linspace(*OPERATIONS[name], 6).view(-1, 1, 1, 1)
    together = COLOURS[name](images, amount)
    for i in range(6):
        alone = COLOURS[name](images[i : i + 1], amount[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", [name for name in COLOURS if name not in ("autocontrast", "equalize")])
def test_colours_at_strength_0_are_as_they_were(name: str) -> None:
    images = photographs(4).float()
    images[0, :, 0] = 255
    amount = torch.full((4, 1, 1, 1), float(OPERATIONS[name][0]))
    torch.testing.assert_close(COLOURS[name](images, amount), images, atol=1e-4, rtol=0)


def test_images_without_an_inside_are_not_sharpened() -> None:
    images = 255 * torch.rand(2, 3, 2, 8)
    assert torch.equal(transforms.sharpness(images, torch.full((2, 1, 1, 1), 0.5)), images)


def moved(name: str, amount: float, images: Tensor) -> Tensor:
    """One operation on geometry, for all images alike."""
    kinds = torch.full((len(images), 1), NAMES.index(name)).numpy()
    matrix = affine(kinds, torch.full((len(images), 1), amount).numpy(), images.shape[-1])
    return transforms.warp(images, torch.from_numpy(matrix))


def alone(name: str, amount: float, images: Tensor) -> Tensor:
    """The same by torchvision."""
    degrees, size = math.degrees(amount), images.shape[-1]
    shear = math.degrees(math.atan(amount))
    angle = degrees if name == "rotate" else 0.0
    across = int(amount * size) if name == "translate_x" else 0
    down = int(amount * size) if name == "translate_y" else 0
    slope = [-shear if name == "shear_x" else 0.0, -shear if name == "shear_y" else 0.0]
    return reference.affine(images, angle, [across, down], 1.0, slope, InterpolationMode.BILINEAR)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_geometry_is_torchvisions(name: str, size: int, sign: int) -> None:
    images, amount = photographs(2, height=size, width=size).float(), sign * 0.7 * OPERATIONS[name][1]
    torch.testing.assert_close(moved(name, amount, images), alone(name, amount, images), atol=0.02, rtol=0)


def test_geometry_in_a_row_is_one_after_the_other() -> None:
    """Up to the blur of resampling twice: on a slope, which bilinear resampling does not blur, exactly."""
    slope = torch.arange(32.0).view(1, 1, 1, 32) + 3 * torch.arange(32.0).view(1, 1, 32, 1)  # (1, 1, 32, 32)
    names, amounts = ("rotate", "shear_x", "translate_y"), (0.2, 0.1, 0.15)
    kinds = torch.tensor([[NAMES.index(name) for name in names]]).numpy()
    at_once = transforms.warp(slope, torch.from_numpy(affine(kinds, torch.tensor([amounts]).numpy(), 32)))
    one_by_one = slope
    for name, amount in zip(names, amounts, strict=True):
        one_by_one = moved(name, amount, one_by_one)
    inner = (slice(None), slice(None), slice(12, 22), slice(12, 22))
    torch.testing.assert_close(at_once[inner], one_by_one[inner], atol=1e-3, rtol=0)
    assert (at_once - slope).abs()[inner].min() > 1


def test_without_operations_on_geometry_nothing_moves() -> None:
    images = torch.randn(3, 3, 16, 16)
    for name in ("identity", "brightness"):
        torch.testing.assert_close(moved(name, 1.0, images), images, atol=1e-5, rtol=0)


def test_what_comes_from_outside_is_0() -> None:
    images = torch.ones(1, 1, 10, 10)
    assert torch.equal(moved("translate_x", 0.35, images)[0, 0, 0], torch.tensor([0.0] * 3 + [1.0] * 7))


def test_erasing_takes_the_box_and_nothing_else() -> None:
    images, noise = torch.randn(2, 4, 3, 8, 10)
    box = torch.tensor([(1, 2, 3, 4), (-2, 7, 5, 9), (0, 0, 0, 0), (0, 0, 8, 10)])
    inside = torch.zeros(4, 1, 8, 10, dtype=torch.bool)
    inside[0, :, 1:4, 2:6] = True
    inside[1, :, :3, 7:] = True  # the rest of it is beyond the borders
    inside[3] = True
    assert torch.equal(transforms.erase(images, box), images.masked_fill(inside, 0))
    assert torch.equal(transforms.erase(images, box, noise), torch.where(inside, noise, images))
