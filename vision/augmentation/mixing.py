"""Mixup and CutMix by timm, as a pure function of (seed, step, rank, micro-batch)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from core.training.order import stream

if TYPE_CHECKING:
    from vision.augmentation.augment import AugmentConfig

Place = tuple[int, int, int]
"""Step, rank and number of a micro-batch."""


class Mixing:
    """Image i of a micro-batch of n is mixed with image n - 1 - i, all of them in the same proportion.

    One draw for the whole micro-batch is timm's mode "batch" (also DeiT's); its other modes loop over the images.
    """

    def __init__(self, config: AugmentConfig, classes: int, seed: int):
        from timm.data.mixup import Mixup

        self.seed, self.classes, self.smoothing = seed, classes, config.smoothing
        self.mixup = Mixup(
            mixup_alpha=config.mixup,
            cutmix_alpha=config.cutmix,
            prob=config.mix_probability,
            switch_prob=config.switch,
            label_smoothing=config.smoothing,
            num_classes=classes,
        )

    def mix(self, images: Tensor, labels: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """Mixed images and their targets: float (B, C, H, W), overwritten; int64 (B,) -> the same and float32 (B, K).

        Targets are smoothed, and sum to 1. Raises ValueError for an odd number of images.
        """
        if len(images) % 2:
            raise ValueError(
                f"batch_size makes micro-batches of {len(images)} images; mixup and cutmix pair them, "
                f"and need an even number"
            )
        with numpy_seeded(self.seed, place):
            return self.mixup(images, labels)

    def soft(self, labels: Tensor) -> Tensor:
        """Targets of images that are not mixed, smoothed, of the same kind: int64 (B,) -> float32 (B, K)."""
        from timm.data.mixup import mixup_target

        return mixup_target(labels, self.classes, smoothing=self.smoothing)


@contextmanager
def numpy_seeded(seed: int, place: Place) -> Iterator[None]:
    """Inside, NumPy's global generator, from which timm draws, is seeded for a micro-batch; afterwards as before."""
    step, rank, micro = place
    before = np.random.get_state()
    np.random.seed(stream(seed, f"mixing {rank} {micro}", step).random_raw(4).astype("<u8").view("<u4"))
    try:
        yield
    finally:
        np.random.set_state(before)
