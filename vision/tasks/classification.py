"""Image classification."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.adapters.lora import adapt
from core.config import TransformerConfig
from core.devices import to_device
from core.messages import notice
from core.training.answers import Answers, Tally
from core.training.checkpoints import read_config
from core.training.config import with_steps
from core.training.folder import resume_point
from core.training.order import Batch, Share
from core.training.run import Run
from core.training.trained import matches_data
from vision.augmentation.augment import Augment
from vision.config import TrainConfig
from vision.data.batches import ImageSet, evaluation_batches
from vision.data.load import Data, load_data
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig
from vision.models.tokens import WhitenedPatchEmbedding
from vision.models.vit import ViT
from vision.pretrained.load import Pretrained
from vision.pretrained.resize import dropping, resized
from vision.sides import in_words
from vision.tasks.task import VisionTask, check_same_data, starts_from_others
from vision.trained import read_pretrained

NAMED = 12  # classes that are named when a run begins
WHITENING_IMAGES = 5_000
"""Training images from whose patches the whitening is computed."""


class Classification(VisionTask):
    """Images augmented anew at every step, cross-entropy of their classes, accuracy on those held out."""

    unit = "images"
    best = "val/accuracy"
    mode: Literal["min", "max"] = "max"
    use = "evaluate it with: python -m vision.evaluate"

    def __init__(self, data: Data, config: TrainConfig, source: Pretrained | None = None):
        self.data, self.config, self.source = data, config, source
        self.augment = Augment(
            config.augment, data.preparation, config.model, config.batch_size, len(data.train), config.seed
        )

    @classmethod
    def prepare(cls, config: TrainConfig) -> Self:
        return cls(*prepare(config))

    def to(self, device: torch.device) -> None:
        self.device, self.images = device, self.data.training(self.config.batch_size, self.config.seed, device)

    def first_model(self) -> ViT:
        model = first_model(self.config, self.data, self.source)
        self.source = None  # as large as the model
        return model

    def trained_part(self, model: ViT) -> ViT:
        if self.config.train == "head":
            model.requires_grad_(False).head.requires_grad_(True)
        return adapt(model, self.config.adapter, whole=("head",))

    def summary(self) -> str:
        data, names = self.data, self.data.preparation.classes
        media = data.preparation.layout.media.plural
        frozen = "; the head alone is trained" if self.config.train == "head" else ""
        return (
            f"{data.name}: {len(data.train):,} {media} to train on, {len(data.validation):,} held out, "
            f"{len(names):,} classes: {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}{frozen}"
        )

    def objective(self, model: ViT) -> nn.Module:
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


def prepare(config: TrainConfig) -> tuple[Data, TrainConfig, Pretrained | None]:
    """The images, the configuration with all that depends on them filled in, and the weights to start from, if any.

    Raises ValueError for bad input.
    """
    source = read_pretrained(config.init_from) if starts_from_others(config) else None
    shape = choose_shape(config, source)
    data = load_data(
        config.data,
        size=shape.image_size,
        channels=shape.channels or None,
        validation=config.validation,
        fit=config.fit,
        crop=(source.crop if source else None) or config.augment.room(shape.image_size),
        preparation=Preparation.load(config.out) if resume_point(config) is not None else None,
        matches=partial(matches_data, config.out) if config.resume else bool,
        skip_bad=config.skip_bad,
        storage=config.storage,
        sound=config.sound if config.media == "sounds" else None,
    )
    check_same_data(config, data)
    if source is not None:
        data = replace(data, preparation=source.adapt_preparation(data.preparation))
    model = replace(shape, channels=data.preparation.channels, classes=len(data.preparation.classes))
    if (model.padding == "columns") != (config.media == "sounds"):
        raise ValueError(f"init_from = {config.init_from!r} is a model of other media than media = {config.media!r}")
    if config.half_size and not (model.continuous and not any(side % 2 for side in model.grid)):
        raise ValueError(
            f"half_size = {config.half_size} needs coordinates = 'grid', positions that take fractions, not "
            f"{model.core.position.kind!r}, and an even number of patches along a side, not {in_words(model.grid)}"
        )
    return data, with_steps(replace(config, model=model), len(data.train)), source


def choose_shape(config: TrainConfig, source: Pretrained | None) -> ViTConfig:
    """The model's shape: that of a resumed run, or of the weights to start from, resized, or of the configuration."""
    if resume_point(config) is not None:
        return read_config(config.out, TrainConfig).model
    if source is None:
        return config.model
    old, new = ((shape.image_size, shape.patch) for shape in (source.config, config.model))
    if old != new:
        sides = f"{new[0]} pixels in patches of {new[1]}, not {old[0]} and {old[1]}"
        notice(f"{config.init_from} is trained on with images of {sides}")
    shape = resized(source.config, *new)
    like = TransformerConfig() if config.train == "head" else config.model.core  # what is not trained is not varied
    return replace(shape, core=dropping(shape.core, like))


def first_model(config: TrainConfig, data: Data, source: Pretrained | None) -> ViT:
    """The model before the first step; a resumed run's weights come later, from its checkpoint."""
    if source is not None:
        return source.start(config.model, data.preparation.classes)
    model = ViT(config.model)
    if resume_point(config) is None and isinstance(model.embed.patches, WhitenedPatchEmbedding):
        pixels = data.train.sample(WHITENING_IMAGES)
        model.embed.patches.fit(data.preparation(pixels, config.model.image_size))
    return model
