"""Image models for the page."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.explorer.described import SEED, TRIES, Described, weights_of
from benchmarks.explorer.stacks import describe_stack
from core.messages import notice
from vision.data.load import load_test
from vision.data.preparation import Preparation
from vision.models.tokens import ConvTokenizer, WhitenedPatchEmbedding
from vision.models.vit import ViT
from vision.sides import Sides
from vision.trained import Trained

EXAMPLES = 10  # images that come with the page


def describe_images(trained: Trained) -> Described:
    """An image model for the page. Raises ValueError naming what the page does not know."""
    model, config, preparation = without_whitening(trained.model), trained.model.config, trained.preparation
    if not (isinstance(config.image_size, int) and isinstance(config.patch, int)):
        raise ValueError(f"image_size = {config.image_size}, patch = {config.patch}: the page knows squares alone")
    side = config.grid[0]
    stack = describe_stack(model.core, side + 1, "full")
    if config.final_norm == "pooled":
        stack["finalNorm"] = "none"
    said = {
        "shape": {
            "size": config.image_size,
            "patch": config.patch,
            "channels": config.channels,
            "side": side,
            "pool": config.pool,
            "pooledNorm": config.core.norm if config.final_norm == "pooled" else "none",
            "coords": model.embed.locate().tolist(),
            "convolutions": convolutions(model),
            "mean": list(preparation.mean),
            "std": list(preparation.std),
            "crop": preparation.crop,
            "classes": list(preparation.classes),
        },
        "stacks": {"core": stack},
        "examples": examples(trained),
    }
    weights = weights_of(model, "embed.patches.whitening")
    return Described("vit", "vision", said, weights, model, lambda: model(random_images(model)))


def convolutions(model: ViT) -> list[str]:
    """The names of the kernels that make tokens, in order; none where patches are mapped."""
    if not isinstance(model.embed.patches, ConvTokenizer):
        return []
    found = [name for name, module in model.embed.patches.named_modules() if isinstance(module, nn.Conv2d)]
    return [f"embed.patches.{name}.weight" for name in found]


def without_whitening(model: ViT) -> ViT:
    """The same function: a whitening and the map behind it are one map."""
    if not isinstance(model.embed.patches, WhitenedPatchEmbedding):
        return model
    model = copy.deepcopy(model)
    patches = model.embed.patches
    assert isinstance(patches, WhitenedPatchEmbedding)
    with torch.no_grad():
        joined = patches.project.weight.double() @ patches.whitening.double()  # (D, P) (P, P) -> (D, P)
        patches.project.weight.copy_(joined)
        patches.whitening.copy_(torch.eye(len(patches.whitening)))
    return model


def random_images(model: ViT, rows: int = TRIES, seed: int = SEED) -> Tensor:
    """Random inputs, normalised: float32 (rows, C, S, S)."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    return torch.randn(rows, config.channels, *config.size, generator=generator)


def examples(trained: Trained) -> list[dict[str, Any]]:
    """The first test image of each of some classes, or none where the data cannot be loaded, as is then said."""
    try:
        test = load_test(trained.config.data, trained.preparation)
    except (ValueError, OSError) as reason:
        notice(f"the page comes without example images: {reason}")
        return []
    labels = test.labels.numpy()
    firsts = [np.flatnonzero(labels == label)[:1] for label in np.unique(labels)[:EXAMPLES]]
    return list(shown(test.batches(firsts), trained.preparation, trained.model.config.image_size))


def shown(batches: Iterator[tuple[Tensor, ...]], preparation: Preparation, size: Sides) -> Iterator[dict[str, Any]]:
    """Images as the model reads them, bytes (C, S, S), and their classes."""
    for pixels, label in batches:
        octets = (preparation.resize(pixels, size)[0] * 255).round().to(torch.uint8)  # (C, S, S)
        said = base64.b64encode(octets.numpy().tobytes()).decode()
        yield {"label": preparation.classes[int(label)], "pixels": said}
