"""The errors of a classifier of images."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from core.training.answers import Answers


@dataclass(frozen=True, eq=False)
class Errors:
    """Images that were assigned to a class that is not theirs.

    pixels: uint8 (N, C, H, W). truth, answer: int64 (N,). confidence: float64 (N,), the answer's probability.
    place: int64 (N,), the number of the image among all.
    """

    pixels: Tensor
    truth: Tensor
    answer: Tensor
    confidence: Tensor
    place: Tensor

    def __len__(self) -> int:
        return len(self.truth)

    @classmethod
    def of(cls, pixels: Tensor, answers: Answers, first: int = 0) -> Errors:
        """All errors of a batch: pixels (B, C, H, W), the answers, and the number of the first image."""
        [wrong] = (answers.answer != answers.truth).nonzero(as_tuple=True)
        truth, answer, confidence = (part[wrong] for part in (answers.truth, answers.answer, answers.confidence))
        return cls(pixels.cpu()[wrong], truth, answer, confidence, first + wrong)

    def most_confident(self, count: int, others: Errors | None = None) -> Errors:
        """The `count` most confident of these and others together, in order."""
        parts = [self] if others is None else [others, self]
        joint = Errors(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(self)))
        order = joint.confidence.argsort(descending=True, stable=True)[:count]
        return Errors(*(getattr(joint, field.name)[order] for field in fields(self)))
