"""How training images are varied: a step's images as stored in, what the model learns from out.

All that is drawn is a pure function of (seed, step, place in the global batch): a resumed run, or one on another
number of processes, sees the same images. Pairs for mixup and cutmix are found inside a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from core.checks import check_at_least, check_between, check_choices, check_positive
from core.devices import to_device
from core.training.order import share, stream
from vision.augmentation import transforms
from vision.augmentation.draws import GEOMETRY, NAMES, OFFSETS, Array, Chance, Draws, affine, draw
from vision.augmentation.mixing import Mixing

if TYPE_CHECKING:
    from vision.data.preparation import Preparation
    from vision.models.vit import ViTConfig

Batch = tuple[Tensor, ...]
"""Images and their labels."""

COLOURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": transforms.brightness,
    "saturation": transforms.saturation,
    "contrast": transforms.contrast,
    "sharpness": transforms.sharpness,
    "posterize": transforms.posterize,
    "solarize": transforms.solarize,
    "autocontrast": lambda images, _: transforms.autocontrast(images),
    "equalize": lambda images, _: transforms.equalize(images),
}


@dataclass(frozen=True)
class AugmentConfig:
    """How training images are varied; by default they are not."""

    crop: Literal["none", "shift", "resized"] = "none"
    """Moved by up to `shift` pixels, or a part of the image resized to the whole (Szegedy 2015)."""
    shift: int = 4
    """shift: the furthest a stored image moves along each axis, in its pixels; borders are reflected."""
    min_area: float = 0.08
    """resized: the smallest part, as a fraction of the area; its sides are as 3:4 to 4:3."""
    flip: Literal["none", "random", "alternating"] = "none"
    """Mirrored left to right: at random, or at random in the first epoch and then every other one (Jordan 2024)."""
    operations: int = 0
    """Changes of colour and geometry in a row, each drawn from 14 (RandAugment, Cubuk 2020); 0 = none."""
    strength: float = 9.0
    """operations: how strong they are, 0..10, where 10 is e.g. a rotation by 30 degrees; 0 = none. The default of
    torchvision's RandAugment is 3 here, DeiT's 9."""
    erase: Literal["none", "cutout", "random"] = "none"
    """A square set to the mean colour (DeVries 2017), or a rectangle filled with noise (Zhong 2020)."""
    erase_size: int = 16
    """cutout: side of the square, in pixels of the model's image; it may reach over the border."""
    erase_probability: float = 0.5
    """Fraction of the images that are erased."""
    mixup: float = 0.0
    """Two images blended as a Beta(mixup, mixup) number says (Zhang 2018); 0 = off."""
    cutmix: float = 0.0
    """A rectangle of one image put into another, its area from Beta(cutmix, cutmix) (Yun 2019); 0 = off."""
    mix_probability: float = 1.0
    """Fraction of the micro-batches with mixup or cutmix."""
    switch: float = 0.5
    """With both mixup and cutmix: the fraction that cutmix gets."""
    smoothing: float = 0.0
    """Label smoothing: part of the target that is spread evenly over all classes (Szegedy 2016)."""
    plain_end: float = 0.0
    """Fraction of the budget, at its end, without operations, erasing, mixup and cutmix."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "shift", "erase_size")
        check_at_least(self, 0, "operations", "mixup", "cutmix")
        check_between(self, 0.0, 1.0, "smoothing")
        for name in ("erase_probability", "mix_probability", "switch", "plain_end"):
            _check_up_to(self, 1, name)
        _check_up_to(self, 10, "strength")
        if not 0 < self.min_area <= 1:
            raise ValueError(f"min_area = {self.min_area!r} must be above 0 and at most 1")

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, and targets therefore soft."""
        return self.mixup > 0 or self.cutmix > 0

    def at(self, spent: float) -> AugmentConfig:
        """What holds once a fraction `spent` of the budget is gone."""
        ended = self.plain_end > 0 and spent >= 1 - self.plain_end
        return replace(self, operations=0, erase="none", mixup=0.0, cutmix=0.0) if ended else self

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        varied = self.operations or self.erase != "none" or self.mixes
        idle = {
            "shift": self.crop != "shift" and f"crop = {self.crop!r} does not read it",
            "min_area": self.crop != "resized" and f"crop = {self.crop!r} does not read it",
            "operations": self.operations and not self.strength and "strength = 0 leaves images as they are",
            "strength": not self.operations and "operations = 0",
            "erase_size": self.erase != "cutout" and f"erase = {self.erase!r} does not read it",
            "erase_probability": self.erase == "none" and "erase = 'none'",
            "mix_probability": not self.mixes and "mixup and cutmix are off",
            "switch": not (self.mixup and self.cutmix) and "it chooses between mixup and cutmix, which are not both on",
            "plain_end": not varied and "there are no operations, erasing, mixup or cutmix to leave out",
        }
        return {name: reason for name, reason in idle.items() if reason}


def _check_up_to(config: AugmentConfig, high: int, name: str) -> None:
    if not 0 <= getattr(config, name) <= high:
        raise ValueError(f"{name} = {getattr(config, name)!r} must be at least 0 and at most {high}")


@dataclass(frozen=True, eq=False)
class Augment:
    """Varies the micro-batches of a step; one call of each operation for all images that need it.

    model: for its image_size and number of classes.
    batch_size: images of one optimiser step, over all processes and micro-batches.
    items, seed: images in an epoch and the seed of their order, which alternating flips follow.
    """

    config: AugmentConfig
    preparation: Preparation
    model: ViTConfig
    batch_size: int
    items: int
    seed: int = 0

    def __call__(
        self, batch: Sequence[Batch], step: int, rank: int = 0, world: int = 1, spent: float = 0.0
    ) -> list[Batch]:
        """The micro-batches of process `rank` of `world`, `spent` (a fraction) of the budget being gone.

        Each (pixels uint8 (b, C, H, W), labels int64 (b,)) -> (images float32 (b, C, S, S), targets), on the same
        device. Targets are the labels, or float32 (b, K), smoothed, where the configuration mixes.
        Raises ValueError when images are too small for the shift, or mixing finds an odd number of them.
        """
        sides = batch[0][0].shape[-2:]
        if self.config.crop == "shift" and self.config.shift >= min(sides):
            raise ValueError(f"shift = {self.config.shift} must be below the {min(sides)} pixels of the images' side")
        now = self.config.at(spent)
        chance = Chance(self.seed, step, self.batch_size)
        drawn = draw(now, chance, self.items, sides, self.model.image_size)
        places = share(np.arange(self.batch_size), rank, world, len(batch))
        varied: list[Batch] = []
        for micro, ((pixels, labels), rows) in enumerate(zip(batch, places, strict=True)):
            images = self._vary(pixels, drawn.of(rows))
            if now.mixes:
                varied.append(self._mixing.mix(images, labels, (step, rank, micro)))
            else:
                varied.append((images, self._mixing.soft(labels) if self.config.mixes else labels))
        return varied

    @cached_property
    def _mixing(self) -> Mixing:
        return Mixing(self.config, self.model.classes, self.seed)

    def _vary(self, pixels: Tensor, drawn: Draws) -> Tensor:
        """uint8 (b, C, H, W) -> float32 (b, C, S, S)."""
        pixels = recoloured(self._cropped(pixels, drawn), drawn)
        if self.config.crop == "resized":
            images = self.preparation.normalise(pixels.float() / 255)
        else:  # as in evaluation, where only the middle of stored images may be seen
            images = self.preparation(pixels, self.model.image_size)
        return self._erased(moved(images, drawn), drawn)

    def _cropped(self, pixels: Tensor, drawn: Draws) -> Tensor:
        """uint8 (b, C, H, W) -> the same, or (b, C, S, S) when resized."""
        if self.config.crop == "none" and self.config.flip == "none":
            return pixels
        flip = _sent(drawn.flip, pixels.device)
        if self.config.crop != "resized":
            return transforms.shifted(pixels, _sent(drawn.offset, pixels.device), flip)
        images = transforms.resampled(pixels, _sent(drawn.box, pixels.device), flip, self.model.image_size)
        return images.round_().to(torch.uint8, memory_format=torch.contiguous_format)

    def _erased(self, images: Tensor, drawn: Draws) -> Tensor:
        """float32 (b, C, S, S) -> the same, with the mean or with noise where images are erased."""
        if not drawn.erased.any():
            return images
        box = _sent(drawn.erased, images.device)
        if self.config.erase == "cutout":
            return transforms.erased(images, box)
        each = images[0].numel()
        table = noise_table(OFFSETS + each, images.device)
        noise = table.unfold(0, each, 1)[_sent(drawn.noise, images.device)]  # (b, C S S)
        return transforms.erased(images, box, noise.view_as(images))


def recoloured(pixels: Tensor, drawn: Draws) -> Tensor:
    """The operations on colours, in the order drawn, rounded at the end: uint8 (b, C, H, W) -> the same."""
    if not drawn.kinds.size:
        return pixels
    images = pixels.float()
    for kinds, amounts in zip(drawn.kinds.T, drawn.amounts.T, strict=True):
        amount = _sent(amounts, pixels.device).view(-1, 1, 1, 1)
        order = _sent(np.argsort(kinds, kind="stable"), pixels.device)
        groups = order.split(np.bincount(kinds, minlength=len(NAMES)).tolist())  # the images of each operation
        for name, rows in zip(NAMES, groups, strict=True):
            if name in COLOURS and len(rows):
                images[rows] = COLOURS[name](images[rows], amount[rows])
    return images.round_().to(torch.uint8)


def moved(images: Tensor, drawn: Draws) -> Tensor:
    """The operations on geometry, all in one, overwriting images: float (b, C, S, S) -> the same."""
    places = np.flatnonzero(np.isin(drawn.kinds, [NAMES.index(name) for name in GEOMETRY]).any(1))
    if len(places):
        rows = _sent(places, images.device)
        matrix = affine(drawn.kinds[places], drawn.amounts[places], images.shape[-1])
        images[rows] = transforms.warped(images[rows], _sent(matrix, images.device))
    return images


@lru_cache(maxsize=1)
def noise_table(length: int, device: torch.device) -> Tensor:
    """Standard normal numbers, float32 (length,), of which each erased image takes a stretch of its own."""
    numbers = np.random.RandomState(stream(0, "augment noise")).standard_normal(length)
    return torch.from_numpy(numbers.astype(np.float32)).to(device)


def _sent(array: Array, device: torch.device) -> Tensor:
    return to_device(torch.from_numpy(array), device)
