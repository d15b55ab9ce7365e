"""Mixup and CutMix: how a micro-batch is mixed, a pure function of (seed, step, rank, micro-batch).

Image i of a micro-batch of n is mixed with image n - 1 - i, all of them in the same proportion: timm's mode "batch",
which is DeiT's as well.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.training import order
from vision.augmentation.config import AugmentConfig
from vision.sides import Sides, rows_and_columns

Box = tuple[int, int, int, int]
"""First row, end of rows, first column, end of columns."""


class Mix(NamedTuple):
    """How images are mixed: the share of an image that stays its own, and with cutmix the box that is pasted."""

    share: float = 1.0
    box: Box | None = None


def draw_mix(config: AugmentConfig, seed: int, place: tuple[int, int, int], size: Sides) -> Mix:
    """Draws how a micro-batch of images of `size` is mixed; place: its step, rank and number."""
    step, rank, micro = place
    random = np.random.RandomState(order.stream(seed, f"mixing {rank} {micro}", step))
    if random.rand() >= config.mix_probability:
        return Mix()
    if config.mixup and config.cutmix:
        cuts = random.rand() < config.switch_probability
    else:
        cuts = config.cutmix > 0
    alpha = config.cutmix if cuts else config.mixup
    share = random.beta(alpha, alpha)
    return draw_box(random, share, size) if cuts else Mix(share)


def draw_box(random: np.random.RandomState, share: float, size: Sides) -> Mix:
    """A box of area 1 - share and the image's shape, centred anywhere and cut off at the border.

    The share is then that of what is left. Yun 2019, equation 2 and appendix A.
    """
    sides = np.array(rows_and_columns(size))
    box = (sides * (1 - share) ** 0.5).astype(np.int64)
    starts = np.array([random.randint(side) for side in sides]) - box // 2
    top, left = (int(start) for start in starts.clip(0))
    bottom, right = (int(end) for end in (starts + box).clip(0, sides))
    return Mix(1 - (bottom - top) * (right - left) / int(sides.prod()), (top, bottom, left, right))


def mix_images(images: Tensor, mix: Mix) -> Tensor:
    """float (B, C, H, W), overwritten -> the same. Raises ValueError for an odd number of images."""
    if len(images) % 2:
        raise ValueError(
            f"batch_size makes micro-batches of {len(images)} images; mixup and cutmix mix them in pairs, "
            f"and need an even number"
        )
    if mix.share == 1:
        return images
    others = images.flip(0)
    if mix.box is None:
        return images.mul_(mix.share).add_(others.mul_(1 - mix.share))
    top, bottom, left, right = mix.box
    images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return images


def mix_targets(targets: Tensor, mix: Mix) -> Tensor:
    """Probabilities float32 (B, K) -> the same."""
    return targets * mix.share + targets.flip(0) * (1 - mix.share)


def soft_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Labels as probabilities, smoothed: int64 (B,) -> float32 (B, K)."""
    even = smoothing / classes
    targets = torch.full((len(labels), classes), even, device=labels.device)
    return targets.scatter_(1, labels.unsqueeze(1), 1 - smoothing + even)
