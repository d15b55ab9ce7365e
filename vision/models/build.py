"""The model that a configuration describes."""

from typing import Any

from torch import nn

from vision.models.config import ViTConfig
from vision.models.contrastive import Contrastive, ContrastiveConfig
from vision.models.dit import DiT, DiTConfig
from vision.models.image_gpt import ImageGPT, ImageGPTConfig
from vision.models.vit import ViT

MODELS: dict[type, type[nn.Module]] = {
    ViTConfig: ViT,
    DiTConfig: DiT,
    ContrastiveConfig: Contrastive,
    ImageGPTConfig: ImageGPT,
}
"""By the class of the configuration."""


def build_model(config: Any) -> Any:
    """A new model of the shape that a configuration describes."""
    return MODELS[type(config)](config)
