"""A trained image model, loaded from its run folder."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.adapters.lora import adapt
from core.training.checkpoints import read_config
from core.training.trained import TrainedRun, Weights, load_run
from vision.config import TrainConfig
from vision.data.preparation import Preparation
from vision.models.dit import DiT
from vision.models.vit import ViT
from vision.pretrained.head import ClassNames
from vision.pretrained.load import Pretrained, read_public
from vision.tasks.configs import CONFIGS
from vision.tasks.flow_config import FlowConfig


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
    run = load_run(folder, FlowConfig, untrained_generator, which, device, weights)
    return TrainedGenerator(**vars(run), preparation=Preparation.load(Path(folder)))


def untrained(config: TrainConfig) -> ViT:
    """The model of a run before its trained weights are filled in: with adapters, that which it stands beside."""
    if config.adapter.kind == "none":
        return ViT(config.model)
    return adapt(read_pretrained(config.init_from).start(config.model), config.adapter, whole=("head",))


def untrained_generator(config: FlowConfig) -> DiT:
    """The same for a model that draws images."""
    if config.adapter.kind == "none":
        return DiT(config.model)
    return adapt(load_generator(config.init_from).model, config.adapter)


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
