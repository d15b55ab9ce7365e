"""Training images are varied: a step's images as stored in, what the model learns from out.

All that is drawn is a pure function of (seed, step, place in the global batch): a resumed run, or one on another
number of processes, augments the same images in the same way. Mixup and CutMix pair images within a micro-batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from core import devices
from core.training import order
from core.training.order import Batch, Share
from vision.augmentation import mixing, sounds, transforms
from vision.augmentation.config import AugmentConfig
from vision.augmentation.draws import GEOMETRY, NAMES, OFFSETS, Array, Draws, UniformNumbers, affine, draw
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig

ALONE = Share()
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

    def __call__(self, batch: Sequence[Batch], step: int, share: Share = ALONE, progress: float = 0) -> list[Batch]:
        """The micro-batches of a process at a step, a fraction `progress` of the budget being spent.

        Each (pixels uint8 (b, C, H, W), labels int64 (b,)) -> (images float32 (b, C, *size), targets), on the same
        device. Targets are the labels, or float32 (b, K), smoothed, where the configuration mixes.
        Raises ValueError when images are too small for the shift, or mixing gets an odd number of them.
        """
        sides = batch[0][0].shape[-2:]
        if self.config.crop == "shift" and self.config.shift >= min(sides):
            raise ValueError(f"shift = {self.config.shift} must be below the {min(sides)} pixels of the images' side")
        now = self.config.effective(progress)
        numbers = UniformNumbers(self.seed, step, self.batch_size)
        drawn = draw(now, numbers, self.items, sides, self.model.image_size)
        places = order.share(np.arange(self.batch_size), share.rank, share.world, len(batch))
        return [
            self._mix(self._vary(pixels, drawn.subset(rows)), labels, now, (step, share.rank, micro))
            for micro, ((pixels, labels), rows) in enumerate(zip(batch, places, strict=True))
        ]

    def _mix(self, images: Tensor, labels: Tensor, now: AugmentConfig, place: tuple[int, int, int]) -> Batch:
        """Images and their targets, mixed if they are at present; place: step, rank and number of the micro-batch."""
        if not self.config.mixes:
            return images, labels
        targets = mixing.soft_targets(labels, self.model.classes, self.config.smoothing)
        if not now.mixes:
            return images, targets
        mix = mixing.draw_mix(now, self.seed, place, self.model.image_size)
        return mixing.mix_images(images, mix), mixing.mix_targets(targets, mix)

    def _vary(self, pixels: Tensor, drawn: Draws) -> Tensor:
        """uint8 (b, C, H, W) -> float32 (b, C, H, W)."""
        pixels = recolour(self._crop(pixels, drawn), drawn)
        if drawn.sound.size:
            filling = max(1, round(255 * self.preparation.mean[0]))
            pixels = sounds.vary(pixels, to_tensor(drawn.sound, pixels.device), self.config.sound, filling)
        if self.config.crop == "resized":
            images = self.preparation.normalise(pixels.float() / 255)
        else:  # as in evaluation, which may crop stored images to their middle
            images = self.preparation(pixels, self.model.image_size)
        return self._erase(warp(images, drawn), drawn)

    def _crop(self, pixels: Tensor, drawn: Draws) -> Tensor:
        """uint8 (b, C, H, W) -> the same, or (b, C, H, W) when resized."""
        if self.config.crop == "none" and self.config.flip == "none":
            return pixels
        flip = to_tensor(drawn.flip, pixels.device)
        if self.config.crop != "resized":
            return transforms.shift(pixels, to_tensor(drawn.offset, pixels.device), flip)
        images = transforms.resample(pixels, to_tensor(drawn.box, pixels.device), flip, self.model.image_size)
        return images.round_().to(torch.uint8, memory_format=torch.contiguous_format)

    def _erase(self, images: Tensor, drawn: Draws) -> Tensor:
        """float32 (b, C, H, W) -> the same, with the mean or with noise where images are erased."""
        if not drawn.erased.any():
            return images
        box = to_tensor(drawn.erased, images.device)
        if self.config.erase == "cutout":
            return transforms.erase(images, box)
        each = images[0].numel()
        table = noise_table(OFFSETS + each, images.device)
        noise = table.unfold(0, each, 1)[to_tensor(drawn.noise, images.device)]  # (b, C S S)
        return transforms.erase(images, box, noise.view_as(images))


def recolour(pixels: Tensor, drawn: Draws) -> Tensor:
    """Applies the operations on colours in the order drawn, rounding at the end: uint8 (b, C, H, W) -> the same."""
    if not drawn.kinds.size:
        return pixels
    images = pixels.float()
    for kinds, amounts in zip(drawn.kinds.T, drawn.amounts.T, strict=True):
        amount = to_tensor(amounts, pixels.device).view(-1, 1, 1, 1)
        by_kind = to_tensor(np.argsort(kinds, kind="stable"), pixels.device)
        groups = by_kind.split(np.bincount(kinds, minlength=len(NAMES)).tolist())  # the images of each operation
        for name, rows in zip(NAMES, groups, strict=True):
            if name in COLOURS and len(rows):
                images[rows] = COLOURS[name](images[rows], amount[rows])
    return images.round_().to(torch.uint8)


def warp(images: Tensor, drawn: Draws) -> Tensor:
    """Applies the operations on geometry as one, overwriting images: float (b, C, H, W) -> the same."""
    places = np.flatnonzero(np.isin(drawn.kinds, [NAMES.index(name) for name in GEOMETRY]).any(1))
    if len(places):
        rows = to_tensor(places, images.device)
        matrix = affine(drawn.kinds[places], drawn.amounts[places], (images.shape[-2], images.shape[-1]))
        images[rows] = transforms.warp(images[rows], to_tensor(matrix, images.device))
    return images


@lru_cache(maxsize=1)
def noise_table(length: int, device: torch.device) -> Tensor:
    """Standard normal numbers, float32 (length,), of which each erased image takes its own stretch."""
    numbers = np.random.RandomState(order.stream(0, "augment noise")).standard_normal(length)
    return torch.from_numpy(numbers.astype(np.float32)).to(device)


def to_tensor(array: Array, device: torch.device) -> Tensor:
    """An array as a tensor on a device."""
    return devices.to_device(torch.from_numpy(array), device)
