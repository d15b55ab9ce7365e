"""A trained image model, brought back from its run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from core.files.json_files import read_json, write_json
from core.training.checkpoints import load_model, read_config
from vision.config import TrainConfig
from vision.data.load import Data, Preparation
from vision.models.vit import ViT

Weights = Literal["averaged", "raw"]
DATA = "data.json"
"""What images a run learns from, in its folder."""


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode with what it needs to be used."""

    model: ViT
    preparation: Preparation
    config: TrainConfig
    step: int
    device: torch.device

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> float32 (B, K) on the model's device."""
        images = self.preparation(pixels.to(self.device), self.model.config.image_size)
        return self.model(images).float()


def load(folder: Path | str, which: str | int = "best", device: str = "cpu", weights: Weights = "averaged") -> Trained:
    """The model of a run folder: checkpoint "best", "last", "last-good" or a step.

    weights: the averages, where the run kept any (`--ema`), or the raw ones that were trained.

    Raises ValueError naming the file that is missing, damaged or of another version.
    """
    folder = Path(folder)
    config = read_config(folder, TrainConfig)
    model, step = load_model(folder, which, lambda: ViT(config.model), weights)
    return Trained(model.to(device), Preparation.load(folder), config, step, torch.device(device))


def save_data_record(data: Data, folder: Path) -> None:
    """Keeps in a run folder how images are prepared, and what they were."""
    data.preparation.save(folder)
    sizes = {"train": len(data.train), "validation": len(data.validation)}
    write_json(folder / DATA, {"data": data.name, "fingerprint": data.fingerprint} | sizes)


def matches_data(folder: Path, data: Data) -> bool:
    """Whether images are those that a run learns from; also where nothing is remembered."""
    record = folder / DATA
    return not record.exists() or read_json(record).get("fingerprint") == data.fingerprint
