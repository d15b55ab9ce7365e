"""A trained image model, loaded from its run folder."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.training.trained import TrainedRun, Weights, load_run
from vision.config import TrainConfig
from vision.data.preparation import Preparation
from vision.models.vit import ViT


@dataclass(frozen=True)
class Trained(TrainedRun[ViT, TrainConfig]):
    """A model in evaluation mode with what it needs to be used."""

    preparation: Preparation

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> float32 (B, K) on the model's device."""
        images = self.preparation(pixels.to(self.device), self.model.config.image_size)
        return self.model(images).float()


def load(folder: Path | str, which: str | int = "best", device: str = "cpu", weights: Weights = "averaged") -> Trained:
    """The model of a run folder and how its images are prepared, see `core.training.trained.load_run`."""
    run = load_run(folder, TrainConfig, lambda config: ViT(config.model), which, device, weights)
    return Trained(**vars(run), preparation=Preparation.load(Path(folder)))
