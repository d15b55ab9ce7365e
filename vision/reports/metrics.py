"""How good a classifier's answers are, as sums that add up over batches and over processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BINS = 15
"""Equal intervals of confidence for calibration, as in Guo 2017."""
Z = 1.959963984540054
"""The normal distribution's two-sided 95 % quantile."""


@dataclass(frozen=True, eq=False)
class Tally:
    """What is known of the answers to some images; `+` joins the tallies of disjoint images.

    confusion: int64 (K, K), images of a true class (row) that were taken for a class (column)
    top5: float64 (), images whose class is among the 5 likeliest
    loss: float64 (), negative log-likelihood in nats, summed
    bins: float64 (3, BINS), by confidence, the probability of the likeliest class: images, summed confidence,
        right answers; bin m holds confidences in (m / BINS, (m + 1) / BINS]
    """

    confusion: Tensor
    top5: Tensor
    loss: Tensor
    bins: Tensor

    @classmethod
    def empty(cls, classes: int) -> Tally:
        """Of no images."""
        logits, labels = torch.zeros(0, classes), torch.zeros(0, dtype=torch.int64)
        return cls.of(logits, labels)

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> Tally:
        """Of a batch: logits (B, K), labels (B,); computed in float64 on the CPU, so the same from every device.

        Among equal logits the class of the lower number comes first, as in `argmax`.
        """
        logits, labels = logits.detach().cpu().double(), labels.cpu()
        classes = logits.shape[1]
        ranked = logits.sort(dim=1, descending=True, stable=True).indices[:, :5]  # (B, 5)
        predicted, right = ranked[:, 0], ranked == labels[:, None]
        confidence = logits.softmax(1).amax(1)  # (B,)
        confusion = torch.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
        return cls(
            confusion,
            right.any(1).sum(dtype=torch.float64),
            F.cross_entropy(logits, labels, reduction="sum"),
            binned(confidence, right[:, 0]),
        )

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.confusion + other.confusion,
            self.top5 + other.top5,
            self.loss + other.loss,
            self.bins + other.bins,
        )

    def total(self, reduce: Callable[[Tensor], Tensor]) -> Tally:
        """The sum over all processes by one call of `reduce`, which sums a float64 vector over them."""
        parts = [self.confusion.double(), self.top5, self.loss, self.bins]
        flat = reduce(torch.cat([part.flatten() for part in parts])).cpu()
        pieces = flat.split([part.numel() for part in parts])
        confusion, top5, loss, bins = (piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True))
        return Tally(confusion.long(), top5, loss, bins)

    @property
    def count(self) -> int:
        """Images."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Images whose likeliest class is their own."""
        return int(self.confusion.trace())

    def figures(self) -> dict[str, float]:
        """accuracy, top5 and ece (expected calibration error, Guo 2017, eq. 3) in 0..1; loss in nats per image."""
        if not self.count:
            raise ValueError("there are no images to judge the model by")
        _, confidence, correct = self.bins
        return {
            "accuracy": self.correct / self.count,
            "top5": float(self.top5) / self.count,
            "loss": float(self.loss) / self.count,
            "ece": float((correct - confidence).abs().sum()) / self.count,
        }


@dataclass(frozen=True)
class ClassFigures:
    """How well one class is told from the others, each figure in 0..1; NaN where it asks about no image."""

    precision: float
    """Of the images taken for the class, the share that is of it."""
    recall: float
    """Of the images of the class, the share taken for it."""
    f1: float
    """The harmonic mean of both."""
    count: int
    """Images of the class."""


def by_class(confusion: Tensor) -> list[ClassFigures]:
    """Precision, recall, F1 and count of each class, from a confusion matrix (K, K) with the truth in rows."""
    right, taken, count = (sums.double() for sums in (confusion.diagonal(), confusion.sum(0), confusion.sum(1)))
    columns = (right / taken, right / count, 2 * right / (taken + count), count.long())  # (K,) each
    return [ClassFigures(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def binned(confidence: Tensor, right: Tensor) -> Tensor:
    """The `bins` of a Tally: confidence float64 (B,), right bool (B,) -> float64 (3, BINS)."""
    edges = torch.arange(1, BINS, dtype=torch.float64) / BINS
    into = torch.bucketize(confidence, edges)  # (B,)
    rows = (torch.ones_like(confidence), confidence, right.double())
    return torch.stack([torch.bincount(into, weights=row, minlength=BINS) for row in rows])


def wilson(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `correct` of `count` were seen (Wilson 1927)."""
    share, spread = correct / count, Z * Z / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
