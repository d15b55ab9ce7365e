"""Weights for another image size, patch size or set of classes: positions interpolated, patch kernels resampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from vision.models.vit import INTEGER_POSITIONS, ViTConfig

PATCH_KERNEL = "embed.patches.project.weight"
WHITENING = "embed.patches.whitening"
POSITIONS = "core.position.tables"
HEAD = "head."


def resample_grid(table: Tensor, side: int) -> Tensor:
    """A table of positions of a square grid in reading order, bicubic, for another grid: (n^2, D) -> (side^2, D)."""
    image = rearrange(table.float(), "(h w) d -> 1 d h w", h=round(len(table) ** 0.5))
    image = F.interpolate(image, size=(side, side), mode="bicubic", antialias=True)
    return rearrange(image, "1 d h w -> (h w) d").to(table.dtype)


def resample_line(table: Tensor, length: int) -> Tensor:
    """The same for the positions along one axis: (n, D) -> (length, D)."""
    line = rearrange(table.float(), "n d -> 1 d 1 n")  # upright, a width of 1, PyTorch repeats the first row
    line = F.interpolate(line, size=(1, length), mode="bicubic", antialias=True)
    return rearrange(line, "1 d 1 n -> n d").to(table.dtype)


def resample_kernel(weight: Tensor, patch: int, new: int) -> Tensor:
    """A patch map for patches of another size: (D, C patch patch) -> (D, C new new).

    With W the matrix of a bicubic resizing (antialiased) from `patch` to `new` pixels, the kernel k' solves
    W^T k' = k in the least-squares sense, so that resized patches keep their products (Beyer 2023, FlexiViT:
    PI-resize).
    """
    pixels = torch.eye(patch * patch, dtype=torch.float64).view(-1, 1, patch, patch)
    images = F.interpolate(pixels, size=(new, new), mode="bicubic", antialias=True)
    resizing = images.flatten(1).T  # (new new, patch patch)
    inverse = torch.linalg.pinv(resizing.T)  # (new new, patch patch)
    kernels = rearrange(weight.double(), "d (c p) -> d c p", p=patch * patch)
    return rearrange(kernels @ inverse.T, "d c p -> d (c p)").to(weight.dtype)


def resized(config: ViTConfig, image_size: int, patch: int) -> ViTConfig:
    """The configuration of the same model for other images.

    Continuous coordinates keep their scale; where the patch changes, whitening becomes a part of the patch map.
    """
    if patch != config.patch:
        config = replace(config, inputs="pixels")
    if config.tokenizer == "conv" and patch != config.patch:
        raise ValueError(f"patch = {patch} must stay {config.patch}: a conv tokenizer cannot be resampled")
    side, scale = image_size // patch, config.coordinate_side or config.side
    if config.coordinates == "raster" or config.core.position.kind in INTEGER_POSITIONS or side == scale:
        return replace(config, image_size=image_size, patch=patch, coordinate_side=None)
    return replace(config, image_size=image_size, patch=patch, coordinate_side=scale)


def adapt(weights: Mapping[str, Tensor], old: ViTConfig, new: ViTConfig) -> dict[str, Tensor]:
    """The weights of a model `old` for a model `new` of another image size, patch or number of classes.

    A head of another number of classes is left out, to be learned anew. Raises ValueError when the two differ in more.
    """
    if replace(new, classes=old.classes) != resized(old, new.image_size, new.patch):
        raise ValueError("the models differ in more than image_size, patch and classes")
    kept = {n: t for n, t in weights.items() if new.classes == old.classes or not n.startswith(HEAD)}
    if WHITENING in kept and new.inputs == "pixels":
        kept[PATCH_KERNEL] = kept[PATCH_KERNEL] @ kept.pop(WHITENING)
    if new.patch != old.patch:
        kept[PATCH_KERNEL] = resample_kernel(kept[PATCH_KERNEL], old.patch, new.patch)
    if new.side != old.side and old.core.position.kind == "learned":
        before = old.learned_tokens if old.coordinates == "raster" else min(1, old.learned_tokens)
        for name in [name for name in kept if name.startswith(POSITIONS)]:
            head, table = kept[name][:before], kept[name][before:]
            resample = resample_grid if old.coordinates == "raster" else resample_line
            kept[name] = torch.cat((head, resample(table, new.side)))
    return kept
