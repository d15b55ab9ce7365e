"""A classifier on a set of images: all that is reported about it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from core.devices import autocast
from vision.data.batches import ImageSet, evaluation_batches
from vision.reports.errors import Errors
from vision.reports.metrics import Tally
from vision.tasks.views import Views, augmented_views, average_views
from vision.trained import Trained

SHOWN = 24
"""Errors kept to be shown."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Tallies of images as they are and of several views averaged (None without), and the most confident errors."""

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
    model = trained.model
    plain = augmented = Tally.empty(model.config.classes)
    errors: Errors | None = None
    with autocast(precision, trained.device):
        for pixels, labels in evaluation_batches(images, batch_size):
            prepared = trained.preparation(pixels.to(trained.device), model.config.image_size)
            logits = [model(view).float() for view in augmented_views(prepared, views)]
            plain += Tally.of(logits[0], labels)
            if views != "none":
                augmented += Tally.of(average_views(logits), labels)
            errors = Errors.of(pixels, logits[0], labels).most_confident(SHOWN, errors)
    assert errors is not None
    return Evaluation(plain, augmented if views != "none" else None, errors)


def variants(results: Mapping[str, Evaluation], views: Views) -> Iterator[Variant]:
    """All ways of answering, by the name of the weights; the first is the plain answer of the first weights."""
    first = next(iter(results))
    for weights, evaluation in results.items():
        key = "" if weights == first else f"/{weights}"
        yield Variant(f"{weights} weights", key, evaluation.plain)
        if evaluation.augmented is not None:
            yield Variant(f"{weights} weights, {views}", f"{key}/tta", evaluation.augmented)
