"""A classifier on a set of images: all that is reported about it, test-time augmentation included."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from core.devices import autocast
from core.training.answers import Answers, Tally
from vision.data.batches import ImageSet, evaluation_batches
from vision.reports.errors import Errors
from vision.trained import Trained

Views = Literal["none", "flip", "shift", "flip-shift"]
"""Test-time augmentation: which views of an image are averaged."""
SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""By how many rows and columns of the model's input an image is moved."""
SHOWN = 24
"""Errors kept to be shown."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Answers to images as they are, their tally, that of several views averaged (None without), the worst errors."""

    answers: Answers
    plain: Tally
    augmented: Tally | None
    errors: Errors


class Variant(NamedTuple):
    """One way of answering: its name in tables, the parts of its keys after the split's, and its tally."""

    name: str
    key: str
    tally: Tally


@torch.no_grad()
def evaluate_all(trained: Trained, images: ImageSet, views: Views, precision: str, batch_size: int) -> Evaluation:
    """All that is reported about a model and a set of images."""
    model, classes = trained.model, trained.model.config.classes
    augmented = Tally.empty(classes)
    errors: Errors | None = None
    parts: list[Answers] = []
    with autocast(precision, trained.device):
        for pixels, labels in evaluation_batches(images, batch_size):
            prepared = trained.preparation(pixels.to(trained.device), model.config.image_size)
            logits = [model(view).float() for view in augmented_views(prepared, views)]
            if views != "none":
                augmented += Tally.of(Answers.of(average_views(logits), labels), classes)
            answers, first = Answers.of(logits[0], labels), sum(len(part.truth) for part in parts)
            errors = Errors.of(pixels, answers, first).most_confident(SHOWN, errors)
            parts.append(answers)
    assert errors is not None
    answers = Answers.joined(parts)
    return Evaluation(answers, Tally.of(answers, classes), augmented if views != "none" else None, errors)


def variants(results: Mapping[str, Evaluation], views: Views) -> Iterator[Variant]:
    """All ways of answering, by the name of the weights; the first is the plain answer of the first weights."""
    first = next(iter(results))
    for weights, evaluation in results.items():
        key = "" if weights == first else f"/{weights}"
        yield Variant(f"{weights} weights", key, evaluation.plain)
        if evaluation.augmented is not None:
            yield Variant(f"{weights} weights, {views}", f"{key}/tta", evaluation.augmented)


def augmented_views(images: Tensor, views: Views) -> Iterator[Tensor]:
    """Prepared images (B, C, H, W): first as they are, then moved or mirrored."""
    for moved in shifted_views(images) if "shift" in views else [images]:
        yield moved
        if "flip" in views:
            yield moved.flip(-1)


def shifted_views(images: Tensor) -> Iterator[Tensor]:
    """Images (B, C, H, W) moved by each of SHIFTS; what that uncovers is filled by reflection."""
    (height, width), padded = images.shape[-2:], F.pad(images, (1, 1, 1, 1), mode="reflect")
    for down, right in SHIFTS:
        yield padded[..., 1 - down : 1 - down + height, 1 - right : 1 - right + width]


def average_views(logits: Sequence[Tensor]) -> Tensor:
    """From the logits (B, K) of each view to the log of the mean of their probabilities (B, K).

    Probabilities are averaged, not logits: the mean of an ensemble (Lakshminarayanan 2017, section 2.4).
    """
    return torch.stack([view.log_softmax(1) for view in logits]).logsumexp(0) - math.log(len(logits))
