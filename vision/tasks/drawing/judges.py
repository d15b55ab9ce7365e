"""What images drawn are judged by: a classifier, or a model that knows which caption an image has."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from vision.config import TrainConfig
from vision.data.batches import Images, ImageSet, evaluation_batches
from vision.data.load import Data
from vision.data.preparation import Preparation
from vision.tasks.classification import Classification, evaluate
from vision.tasks.contrastive import retrieval, vectors
from vision.tasks.contrastive_config import ContrastiveRunConfig
from vision.tasks.loop import train_task
from vision.trained import Trained, TrainedContrastive, TrainedGenerator, TrainedPixels, load, load_contrastive, task_of


class Judge(Protocol):
    """A trained model that judges images."""

    def figures(self, drawn: Images, unseen: Images) -> dict[str, float]:
        """What it says of images drawn, and under names that end in _real what it says of real ones."""

    def features(self, images: Images) -> Tensor:
        """What its head reads: float32 (N, D)."""

    def accuracy(self, images: Images) -> float:
        """The share of images that it assigns to their own class or caption."""

    def retrained(self, images: Images) -> Judge:
        """The same model, from its first step on, trained on other images alone. Raises ValueError if it cannot be."""


@dataclass(frozen=True)
class ClassJudge:
    """A classifier. rows: images at once."""

    model: Trained
    rows: int

    def figures(self, drawn: Images, unseen: Images) -> dict[str, float]:
        """recognised: the share that is assigned to the class asked for."""
        return {"recognised": self.accuracy(drawn), "recognised_real": self.accuracy(unseen)}

    def features(self, images: Images) -> Tensor:
        return pooled(self.model, images, self.rows)

    def accuracy(self, images: Images) -> float:
        model = self.model
        return evaluate(model.model, images, model.preparation, self.rows, device=model.device)["accuracy"]

    def retrained(self, images: Images) -> ClassJudge:
        """By its own recipe (Ravuri & Vinyals 2019)."""
        own = self.model
        with tempfile.TemporaryDirectory() as folder:
            place = {"out": Path(folder) / "run", "init_from": "", "validation": 0, "resume": False, "train": "all"}
            config = replace(own.config, **place)  # type: ignore[arg-type]
            none = images.subset(torch.arange(0).numpy())
            train_task(Classification(Data("images drawn", images, none, own.preparation, "", ""), config))
            return replace(self, model=load(config.out, "last", device=own.device.type))


@dataclass(frozen=True)
class CaptionJudge:
    """A model of images and captions. rows: images at once."""

    model: TrainedContrastive
    rows: int

    def figures(self, drawn: Images, unseen: Images) -> dict[str, float]:
        """retrieved: the share whose own caption is nearest among the different ones of all; retrieved_top5: is among
        the nearest five; retrieved_chance: the share if captions were guessed. Real images are those of these captions.
        """
        same = unseen.subset(torch.isin(unseen.labels, drawn.labels).nonzero().flatten().numpy())
        ours, real = self._retrieval(drawn), self._retrieval(same)
        return {
            "retrieved": ours["accuracy"],
            "retrieved_real": real["accuracy"],
            "retrieved_chance": ours["chance"],
            "retrieved_top5": ours["top5"],
            "retrieved_top5_real": real["top5"],
        }

    def features(self, images: Images) -> Tensor:
        return pooled(self.model, images, self.rows)

    def accuracy(self, images: Images) -> float:
        return self._retrieval(images)["accuracy"]

    def retrained(self, images: Images) -> CaptionJudge:
        raise ValueError("retrain is for a judge that is a classifier: this one knows captions")

    def _retrieval(self, images: Images) -> dict[str, float]:
        own = self.model
        return retrieval(*vectors(own.model, images, own.preparation, own.prompts, self.rows))


def load_judge(folder: Path, trained: TrainedGenerator | TrainedPixels, rows: int) -> Judge:
    """A judge of the same classes or captions. Raises ValueError for one of others, or of another task."""
    captioned = trained.prompts.words is not None
    found, wanted = task_of(folder), ContrastiveRunConfig.task if captioned else TrainConfig.task
    if found != wanted:
        raise ValueError(f"judge = {str(folder)!r} holds a model for {found!r}: here one for {wanted!r} is needed")
    device, own = trained.device.type, trained.preparation
    judge: Judge
    if captioned:
        caption_model = load_contrastive(folder, device=device)
        judge, theirs = CaptionJudge(caption_model, rows), caption_model.preparation
    else:
        classifier = load(folder, device=device)
        judge, theirs = ClassJudge(classifier, rows), classifier.preparation
    for name in ("classes", "channels"):
        if getattr(theirs, name) != getattr(own, name):
            shown = f"{getattr(theirs, name)!r:.60}, not {getattr(own, name)!r:.60}"
            raise ValueError(f"judge = {str(folder)!r} has {name} = {shown}, as what it is to judge")
    return judge


@torch.no_grad()
def pooled(judge: Trained | TrainedContrastive, images: Images, rows: int) -> Tensor:
    """What the head of a model reads of images: float32 (N, D), on the CPU."""
    size = judge.model.config.image_size
    parts = [judge.preparation(part.to(judge.device), size) for part in images.pixels.split(rows)]
    return torch.cat([judge.model.pooled(part).float().cpu() for part in parts])


def as_drawn(images: ImageSet, preparation: Preparation, size: int) -> Images:
    """Images as a model draws them, of its size."""
    parts = [*evaluation_batches(images, 500)]
    pixels = [(preparation.resize(part, size) * 255).round().to(torch.uint8) for part, _ in parts]
    return Images(torch.cat(pixels), torch.cat([labels for _, labels in parts]))
