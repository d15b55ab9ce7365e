"""Test-time augmentation: several views of an image, and one answer from all of them."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Views = Literal["none", "flip", "shift", "flip-shift"]
SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""By how many rows and columns of the model's input an image is moved."""


def augmented_views(images: Tensor, views: Views) -> Iterator[Tensor]:
    """Prepared images (B, C, S, S): first as they are, then moved or mirrored."""
    for moved in shifted_views(images) if "shift" in views else [images]:
        yield moved
        if "flip" in views:
            yield moved.flip(-1)


def shifted_views(images: Tensor) -> Iterator[Tensor]:
    """Images (B, C, S, S) moved by each of SHIFTS; what that uncovers is filled by reflection."""
    size, padded = images.shape[-1], F.pad(images, (1, 1, 1, 1), mode="reflect")
    for down, right in SHIFTS:
        yield padded[..., 1 - down : 1 - down + size, 1 - right : 1 - right + size]


def average_views(logits: Sequence[Tensor]) -> Tensor:
    """From the logits (B, K) of each view to the log of the mean of their probabilities (B, K).

    Probabilities are averaged, not logits: the mean of an ensemble (Lakshminarayanan 2017, section 2.4).
    """
    return torch.stack([view.log_softmax(1) for view in logits]).logsumexp(0) - math.log(len(logits))
