"""Figures of a classifier's answers, from sums that add up over batches and over processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

BINS = 15
"""Equal intervals of confidence for calibration, as in Guo 2017."""
PIECE = 1 << 18
"""Logits that are looked at together, so that many classes need little memory."""


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums over the answers to some examples; `+` adds those of others.

    classes: int64 (3, K), by class: its examples, the answers that name it, and those of them that are correct
    top5: float64 (), examples whose class is among the 5 most probable
    loss: float64 (), negative log-likelihood in nats, summed
    bins: float64 (3, BINS), by confidence, the probability of the answer: examples, summed confidence, correct
        answers; bin m holds confidences in (m / BINS, (m + 1) / BINS]
    """

    classes: Tensor
    top5: Tensor
    loss: Tensor
    bins: Tensor

    @classmethod
    def empty(cls, classes: int) -> Tally:
        """Of no examples."""
        return cls.of(Answers.of(torch.zeros(0, classes), torch.zeros(0, dtype=torch.int64)), classes)

    @classmethod
    def of(cls, answers: Answers, classes: int) -> Tally:
        """Of the answers to a batch."""
        correct = answers.answer == answers.truth
        named = (answers.truth, answers.answer, answers.truth[correct])
        return cls(
            torch.stack([torch.bincount(labels, minlength=classes) for labels in named]),
            (answers.rank < 5).sum(dtype=torch.float64),
            -answers.likelihood.sum(),
            binned(answers.confidence, correct),
        )

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def total(self, reduce: Callable[[Tensor], Tensor]) -> Tally:
        """The sum over all processes by one call of `reduce`, which sums a float64 vector over them."""
        parts = [self.classes.double(), self.top5, self.loss, self.bins]
        flat = reduce(torch.cat([part.flatten() for part in parts])).cpu()
        pieces = flat.split([part.numel() for part in parts])
        classes, top5, loss, bins = (piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True))
        return Tally(classes.long(), top5, loss, bins)

    @property
    def count(self) -> int:
        """Examples."""
        return int(self.classes[0].sum())

    @property
    def correct(self) -> int:
        """Examples assigned to their own class."""
        return int(self.classes[2].sum())

    def figures(self) -> dict[str, float]:
        """accuracy, top5, balanced_accuracy, macro_f1 and ece in 0..1; loss in nats per example.

        balanced_accuracy is the mean recall of the classes that have examples, macro_f1 the mean F1 of those that have
        examples or answers, ece the expected calibration error (Guo 2017, eq. 3).
        """
        if not self.count:
            raise ValueError("there is nothing to evaluate the model on")
        _, confidence, correct = self.bins
        _, recall, f1 = shares(self.classes)
        return {
            "accuracy": self.correct / self.count,
            "top5": float(self.top5) / self.count,
            "balanced_accuracy": float(recall.nanmean()),
            "macro_f1": float(f1.nanmean()),
            "loss": float(self.loss) / self.count,
            "ece": float((correct - confidence).abs().sum()) / self.count,
        }


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says about some examples, in order.

    truth, answer: int64 (N,), classes
    rank: int64 (N,), how many classes are more probable than the true one; among equals the lower number comes first
    confidence: float64 (N,), the probability of the answer
    likelihood: float64 (N,), the log of the probability of the true class, in nats
    """

    truth: Tensor
    answer: Tensor
    rank: Tensor
    confidence: Tensor
    likelihood: Tensor

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> Answers:
        """To a batch: logits (B, K), labels (B,); computed in float64 on the CPU, so the same from every device."""
        rows = max(1, PIECE // logits.shape[1])
        pieces = zip(logits.detach().cpu().split(rows), labels.cpu().split(rows), strict=True)
        return cls.joined([cls._of_piece(piece, truth) for piece, truth in pieces])

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Those of several parts, one after the other."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def take(self, places: Tensor) -> Answers:
        """Those to some of the examples: places int64 (M,)."""
        return Answers(*(getattr(self, f.name)[places] for f in fields(self)))

    @classmethod
    def _of_piece(cls, logits: Tensor, labels: Tensor) -> Answers:
        places, exact = labels[:, None], logits.double()  # (B, 1), (B, K)
        logits = logits.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)  # NaN first, as in `argmax`
        own = logits.gather(1, places)  # (B, 1)
        earlier = torch.arange(logits.shape[1]) < places  # (B, K)
        rank = ((logits > own) | ((logits == own) & earlier)).count_nonzero(1)
        norm, answer = exact.logsumexp(1), logits.argmax(1)  # (B,) each
        confidence = (exact.gather(1, answer[:, None]).squeeze(1) - norm).exp()
        return cls(labels, answer, rank, confidence, exact.gather(1, places).squeeze(1) - norm)


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class, each in 0..1; NaN where no example counts."""

    precision: float
    """Of the examples assigned to the class, the share that belongs to it."""
    recall: float
    """Of the examples of the class, the share assigned to it."""
    f1: float
    """The harmonic mean of both."""
    count: int
    """Examples of the class."""


def by_class(tally: Tally) -> list[ClassFigures]:
    """Precision, recall, F1 and count of each class."""
    columns = (*shares(tally.classes), tally.classes[0])
    return [ClassFigures(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def shares(classes: Tensor) -> Tensor:
    """Precision, recall and F1 of each class from the `classes` of a Tally: float64 (3, K); NaN where 0 / 0."""
    examples, answers, correct = classes.double()
    return torch.stack((correct / answers, correct / examples, 2 * correct / (answers + examples)))


def confusion_matrix(answers: Answers, classes: int) -> Tensor:
    """int64 (K, K): how many examples of a true class (row) were assigned to a class (column)."""
    cells = answers.truth * classes + answers.answer
    return torch.bincount(cells, minlength=classes**2).reshape(classes, classes)


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
