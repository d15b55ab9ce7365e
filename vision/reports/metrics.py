"""Figures of a classifier's answers, from sums that add up over batches and over processes; and its errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

BINS = 15
"""Equal intervals of confidence for calibration, as in Guo 2017."""


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums over the answers to some images; `+` adds those of other images.

    confusion: int64 (K, K), images of a true class (row) that were assigned to a class (column)
    top5: float64 (), images whose class is among the 5 most probable
    loss: float64 (), negative log-likelihood in nats, summed
    bins: float64 (3, BINS), by confidence, the probability of the answer: images, summed confidence, correct
        answers; bin m holds confidences in (m / BINS, (m + 1) / BINS]
    """

    confusion: Tensor
    top5: Tensor
    loss: Tensor
    bins: Tensor

    @classmethod
    def empty(cls, classes: int) -> Tally:
        """Of no images."""
        return cls.of(torch.zeros(0, classes), torch.zeros(0, dtype=torch.int64))

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> Tally:
        """Of a batch: logits (B, K), labels (B,); computed in float64 on the CPU, so the same from every device.

        Among equal logits the class of the lower number comes first, as in `argmax`.
        """
        logits, labels = logits.detach().cpu().double(), labels.cpu()
        classes = logits.shape[1]
        ranked = logits.sort(dim=1, descending=True, stable=True).indices[:, :5]  # (B, 5)
        answer, correct = ranked[:, 0], ranked == labels[:, None]
        confidence = logits.softmax(1).amax(1)  # (B,)
        confusion = torch.bincount(labels * classes + answer, minlength=classes**2).reshape(classes, classes)
        return cls(
            confusion,
            correct.any(1).sum(dtype=torch.float64),
            F.cross_entropy(logits, labels, reduction="sum"),
            binned(confidence, correct[:, 0]),
        )

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

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
        """Images assigned to their own class."""
        return int(self.confusion.trace())

    def figures(self) -> dict[str, float]:
        """accuracy, top5 and ece (expected calibration error, Guo 2017, eq. 3) in 0..1; loss in nats per image."""
        if not self.count:
            raise ValueError("there are no images to evaluate the model on")
        _, confidence, correct = self.bins
        return {
            "accuracy": self.correct / self.count,
            "top5": float(self.top5) / self.count,
            "loss": float(self.loss) / self.count,
            "ece": float((correct - confidence).abs().sum()) / self.count,
        }


@dataclass(frozen=True, eq=False)
class Errors:
    """Images that were assigned to a class that is not theirs.

    pixels: uint8 (N, C, H, W). truth, answer: int64 (N,). confidence: float64 (N,), the answer's probability.
    """

    pixels: Tensor
    truth: Tensor
    answer: Tensor
    confidence: Tensor

    def __len__(self) -> int:
        return len(self.truth)

    @classmethod
    def of(cls, pixels: Tensor, logits: Tensor, labels: Tensor) -> Errors:
        """All errors of a batch: pixels (B, C, H, W), logits (B, K), labels (B,)."""
        confidence, answer = logits.cpu().double().softmax(1).max(1)  # (B,), (B,)
        wrong = answer != labels.cpu()
        return cls(pixels.cpu()[wrong], labels.cpu()[wrong], answer[wrong], confidence[wrong])

    def most_confident(self, count: int, others: Errors | None = None) -> Errors:
        """The `count` most confident of these and others together, in order."""
        parts = [self] if others is None else [self, others]
        joint = Errors(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(self)))
        order = joint.confidence.argsort(descending=True, stable=True)[:count]
        return Errors(*(getattr(joint, field.name)[order] for field in fields(self)))


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class, each in 0..1; NaN where no image counts."""

    precision: float
    """Of the images assigned to the class, the share that belongs to it."""
    recall: float
    """Of the images of the class, the share assigned to it."""
    f1: float
    """The harmonic mean of both."""
    count: int
    """Images of the class."""


def by_class(confusion: Tensor) -> list[ClassFigures]:
    """Precision, recall, F1 and count of each class, from a confusion matrix (K, K) with the truth in rows."""
    hits, answered, images = confusion.diagonal().double(), confusion.sum(0), confusion.sum(1)  # (K,) each
    columns = hits / answered, hits / images, 2 * hits / (answered + images), images  # 0 / 0 is NaN
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [ClassFigures(*row) for row in rows]


def binned(confidence: Tensor, correct: Tensor) -> Tensor:
    """The `bins` of a Tally: confidence float64 (B,), correct bool (B,) -> float64 (3, BINS)."""
    edges = torch.arange(1, BINS, dtype=torch.float64) / BINS
    into = torch.bucketize(confidence, edges)  # (B,)
    rows = (torch.ones_like(confidence), confidence, correct.double())
    return torch.stack([torch.bincount(into, weights=row, minlength=BINS) for row in rows])


def wilson(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a proportion of which `correct` of `count` were observed (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(correct, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
