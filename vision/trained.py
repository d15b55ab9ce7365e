"""A trained image model, loaded from its run folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from core.adapters.lora import adapt
from core.training.checkpoints import read_config
from core.training.trained import TrainedRun, Weights, load_run
from vision.captions.prompts import Prompts
from vision.config import TrainConfig, VisionConfig
from vision.data.preparation import Preparation
from vision.generation.codebook import Codebook
from vision.generation.draw import ImageGenerator
from vision.generation.pixels import PixelGenerator
from vision.models.contrastive import Contrastive
from vision.models.dit import DiT
from vision.models.image_gpt import ImageGPT
from vision.models.vit import ViT
from vision.pretrained.head import ClassNames
from vision.pretrained.load import Pretrained, read_public
from vision.tasks.configs import CONFIGS
from vision.tasks.contrastive_config import ContrastiveRunConfig
from vision.tasks.drawing.flow_config import FlowConfig
from vision.tasks.drawing.pixels_config import PixelsConfig

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Trained(TrainedRun[ViT, TrainConfig]):
    """A classifier in evaluation mode with what it needs to be used."""

    preparation: Preparation

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> float32 (B, K) on the model's device."""
        images = self.preparation(pixels.to(self.device), self.model.config.image_size)
        return self.model(images).float()


@dataclass(frozen=True)
class TrainedGenerator(TrainedRun[DiT, FlowConfig]):
    """A model that draws images, in evaluation mode, with what it needs to be used."""

    preparation: Preparation
    prompts: Prompts

    def generator(self, rows: int = 250) -> ImageGenerator:
        """What draws; rows: images at once."""
        return ImageGenerator(self.model, self.preparation, self.prompts, self.device, rows)


@dataclass(frozen=True)
class TrainedPixels(TrainedRun[ImageGPT, PixelsConfig]):
    """A model that draws images token by token, in evaluation mode, with what it needs to be used."""

    preparation: Preparation
    prompts: Prompts
    codebook: Codebook

    def generator(self, rows: int = 250, begun: Tensor | None = None) -> PixelGenerator:
        """What draws; rows: images at once; begun: tokens that every image begins with, int64 (m,)."""
        return PixelGenerator(self.model, self.codebook, self.prompts, self.device, rows, begun)


@dataclass(frozen=True)
class TrainedContrastive(TrainedRun[Contrastive, ContrastiveRunConfig]):
    """A model of images and captions, in evaluation mode, with what it needs to be used."""

    preparation: Preparation
    prompts: Prompts


def load(folder: Path | str, which: str | int = "best", device: str = "cpu", weights: Weights = "averaged") -> Trained:
    """The classifier of a run folder and how its images are prepared, see `core.training.trained.load_run`.

    Raises ValueError for the run of another task.
    """
    require_task(folder, TrainConfig.task, "one that classifies images")
    run = load_run(folder, TrainConfig, untrained, which, device, weights)
    return Trained(**vars(run), preparation=Preparation.load(Path(folder)))


def load_generator(
    folder: Path | str, which: str | int = "best", device: str = "cpu", weights: Weights = "averaged"
) -> TrainedGenerator:
    """The model of a run folder that draws images, likewise."""
    require_task(folder, FlowConfig.task, "one that draws images")
    run = load_run(folder, FlowConfig, before_training(DiT, load_generator), which, device, weights)
    preparation, shape = Preparation.load(Path(folder)), run.config.model
    prompts = Prompts.load(Path(folder), shape.told, preparation.classes, shape.caption_length)
    return TrainedGenerator(**vars(run), preparation=preparation, prompts=prompts)


def load_pixels(
    folder: Path | str, which: str | int = "best", device: str = "cpu", weights: Weights = "averaged"
) -> TrainedPixels:
    """The model of a run folder that draws images token by token, likewise."""
    require_task(folder, PixelsConfig.task, "one that draws images token by token")
    run = load_run(folder, PixelsConfig, before_training(ImageGPT, load_pixels), which, device, weights)
    preparation, config = Preparation.load(Path(folder)), run.config
    prompts = Prompts.load(Path(folder), config.told, preparation.classes, config.caption_length)
    return TrainedPixels(**vars(run), preparation=preparation, prompts=prompts, codebook=Codebook.load(Path(folder)))


def load_drawing(
    folder: Path | str, which: str | int = "best", device: str = "cpu", weights: Weights = "averaged"
) -> TrainedGenerator | TrainedPixels:
    """The model of a run folder that draws images, by either way. Raises ValueError for the run of another task."""
    if task_of(folder) == PixelsConfig.task:
        return load_pixels(folder, which, device, weights)
    return load_generator(folder, which, device, weights)


def load_contrastive(
    folder: Path | str, which: str | int = "best", device: str = "cpu", weights: Weights = "averaged"
) -> TrainedContrastive:
    """The model of a run folder that knows which caption an image has, likewise."""
    require_task(folder, ContrastiveRunConfig.task, "one of images and captions")
    untrained = before_training(Contrastive, load_contrastive)
    run = load_run(folder, ContrastiveRunConfig, untrained, which, device, weights)
    preparation = Preparation.load(Path(folder))
    prompts = Prompts.load(Path(folder), "caption", preparation.classes, run.config.model.caption_length)
    return TrainedContrastive(**vars(run), preparation=preparation, prompts=prompts)


def untrained(config: TrainConfig) -> ViT:
    """The model of a run before its trained weights are filled in: with adapters, that which it stands beside."""
    if config.adapter.kind == "none":
        return ViT(config.model)
    return adapt(read_pretrained(config.init_from).start(config.model), config.adapter, whole=("head",))


def before_training(build: Callable[[Any], M], load: Callable[[str], Any]) -> Callable[[Any], M]:
    """The same for the models of another task: `load` reads a run of it."""

    def untrained(config: VisionConfig) -> M:
        if config.adapter.kind == "none":
            return build(config.model)
        return adapt(load(config.init_from).model, config.adapter)

    return untrained


def read_pretrained(name: str) -> Pretrained:
    """A trained model by name: a run folder of vision.train (its best checkpoint, averaged weights where it has any),
    or a public one, see `read_public`.

    Raises ValueError naming what is missing, damaged, or of an architecture that is not handled.
    """
    path = Path(name).expanduser()
    if not (path / "checkpoints").is_dir():
        return read_public(name)
    run = load(path)
    model, images = run.model, run.preparation
    return Pretrained(
        name, model.config, model.state_dict(), images.mean, images.std, classes=ClassNames(images.classes)
    )


def task_of(folder: Path | str) -> str:
    """The name of the task that a run folder is of. Raises ValueError where it is no run folder."""
    return read_config(Path(folder), CONFIGS).task


def require_task(folder: Path | str, task: str, wanted: str) -> None:
    """Raises ValueError unless a run folder is of a task."""
    if (found := task_of(folder)) != task:
        raise ValueError(f"{folder} holds a model for {found!r}, not {wanted}")
