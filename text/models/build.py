"""The model that a configuration describes."""

from typing import Any

from torch import nn

from text.models.gpt import GPT, GPTConfig

MODELS: dict[type, type[nn.Module]] = {GPTConfig: GPT}
"""By the class of the configuration."""


def build_model(config: Any) -> Any:
    """A new model of the shape that a configuration describes."""
    return MODELS[type(config)](config)
