"""The images that a classifier gets wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


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
