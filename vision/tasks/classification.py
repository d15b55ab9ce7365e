"""Image classification."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.devices import to_device
from core.training.answers import Answers, Tally
from core.training.order import Batch, Share
from core.training.run import Run
from vision.augmentation.augment import Augment
from vision.config import TrainConfig
from vision.data.batches import ImageSet, evaluation_batches
from vision.data.load import Data
from vision.data.preparation import Preparation
from vision.models.vit import ViT

NAMED = 12  # classes that are named when a run begins


class Classification:
    """Images augmented anew at every step, cross-entropy of their classes, accuracy on those held out."""

    unit = "images"
    best = "val/accuracy"
    mode: Literal["min", "max"] = "max"

    def __init__(self, data: Data, config: TrainConfig, device: torch.device):
        self.data, self.config, self.device = data, config, device
        self.images = data.training(config.batch_size, config.seed, device)
        self.augment = Augment(
            config.augment, data.preparation, config.model, config.batch_size, len(data.train), config.seed
        )

    def summary(self) -> str:
        """One line about the images."""
        data, names = self.data, self.data.preparation.classes
        media = data.preparation.layout.media.plural
        frozen = "; the head alone is trained" if self.config.train == "head" else ""
        return (
            f"{data.name}: {len(data.train):,} {media} to train on, {len(data.validation):,} held out, "
            f"{len(names):,} classes: {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}{frozen}"
        )

    def objective(self, model: ViT) -> nn.Module:
        """The model with its loss."""
        balanced = self.config.class_weights == "balanced"
        weights = class_weights(self.data.train.labels, model.config.classes) if balanced else None
        return ClassificationLoss(model, self.config.augment.smoothing, weights)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step: images (b, C, H, W), augmented, and labels (b,) or probabilities (b, K)."""
        stored = [(to_device(x, self.device), to_device(y, self.device)) for x, y in self.images.batch(step, *share)]
        augmented = self.augment(stored, step, share, progress)
        return [(halve(x), y) for x, y in augmented] if progress < self.config.half_size else augmented

    def count(self, *batch: Tensor) -> int:
        """The number of images in a micro-batch."""
        return len(batch[0])

    def evaluate(self, run: Run) -> dict[str, float]:
        """Figures of all held-out images, divided among the processes; none where no images are held out."""
        model, data = run.state.model, self.data
        assert isinstance(model, ViT)
        if not len(data.validation):
            return {}
        share = (run.share.rank, run.share.world)
        rows, device = self.config.eval_batch, run.device
        figures = evaluate(model, data.validation, data.preparation, rows, device=device, share=share, reduce=run.total)
        return {f"val/{name}": value for name, value in figures.items()}


class ClassificationLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one."""

    weights: Tensor | None

    def __init__(self, model: ViT, smoothing: float = 0.0, weights: Tensor | None = None):
        super().__init__()
        self.model, self.smoothing = model, smoothing
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy summed over the images, in nats: (B, C, H, W), labels (B,) or probabilities (B, K) -> ().

        In float32. Probabilities are taken as they are; `smoothing` is for labels (Szegedy 2016, section 7). `weights`
        (K,) multiply the terms of each class.
        """
        logits = self.model(images).float()  # (B, K)
        smoothing = 0.0 if targets.is_floating_point() else self.smoothing
        return F.cross_entropy(logits, targets, self.weights, label_smoothing=smoothing, reduction="sum")


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """The more the fewer images a class has, with a mean of 1 over the images: int64 (N,) -> float32 (K,)."""
    counts = torch.bincount(labels.cpu(), minlength=classes).clamp(min=1)
    return len(labels) / (classes * counts.float())


@torch.no_grad()
def evaluate(
    model: ViT,
    images: ImageSet,
    preparation: Preparation,
    batch_size: int,
    *,
    device: torch.device | str = "cpu",
    share: tuple[int, int] = (0, 1),
    reduce: Callable[[Tensor], Tensor] = lambda total: total,
) -> dict[str, float]:
    """The figures of a `Tally` of a model in evaluation mode, each image counted once.

    share: (rank, number of processes); `reduce` then sums a tensor over all of them

    Raises ValueError where there are no images.
    """
    config = model.config
    tally = Tally.empty(config.classes)
    for pixels, labels in evaluation_batches(images, batch_size, *share):
        logits = model(preparation(pixels.to(device), config.image_size))  # (b, K)
        tally += Tally.of(Answers.of(logits, labels), config.classes)
    return tally.total(reduce).figures()


def halve(images: Tensor) -> Tensor:
    """Every four pixels become their mean: (B, C, H, W) -> (B, C, H / 2, W / 2)."""
    return F.avg_pool2d(images, 2)
