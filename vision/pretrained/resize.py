"""Weights for another image size, patch size or set of classes: positions and patch kernels resampled as timm does."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from core.config import TransformerConfig
from vision.models.config import DROPPED, ViTConfig
from vision.sides import Sides, rows_and_columns, shortest

PATCH_KERNEL = "embed.patches.project.weight"
WHITENING = "embed.patches.whitening"
POSITIONS = "core.position.tables"
HEAD = "head."


def resized(config: ViTConfig, image_size: Sides, patch: Sides) -> ViTConfig:
    """The configuration of the same model for other images.

    Continuous coordinates keep their scale; where the patch changes, whitening becomes a part of the patch map.
    """
    if patch != config.patch:
        config = replace(config, inputs="pixels")
    if config.tokenizer == "conv" and patch != config.patch:
        raise ValueError(f"patch = {patch} must stay {config.patch}: a conv tokenizer cannot be resampled")
    scale, new = config.coordinate_grid, replace(config, image_size=image_size, patch=patch, coordinate_side=None)
    if config.padding == "columns":  # more of them are a longer sound, not a finer image
        scale = (scale[0], new.grid[1])
    own = new.grid == scale or not config.continuous
    return replace(new, coordinate_side=None if own else shortest(*scale))


def dropping(core: TransformerConfig, like: TransformerConfig) -> TransformerConfig:
    """The same core, in which as much is dropped out as in another."""
    rates = {name: getattr(like, name) for name in DROPPED if name != "drop_path" or core.depth > 1}
    return replace(core, **rates)


def adapt(weights: Mapping[str, Tensor], old: ViTConfig, new: ViTConfig) -> dict[str, Tensor]:
    """The weights of a model `old` for a model `new` of another image size, patch or number of classes.

    A head of another number of classes is left out. Raises ValueError when the two differ in more.
    """
    same = replace(new, classes=old.classes, core=dropping(new.core, old.core))
    if same != resized(old, new.image_size, new.patch):
        raise ValueError("the models differ in more than image_size, patch and classes")
    kept = {n: t for n, t in weights.items() if new.classes == old.classes or not n.startswith(HEAD)}
    if new.inputs == "pixels":
        kept = fold_whitening(kept)
    if new.patch != old.patch:
        kept[PATCH_KERNEL] = resample_kernel(kept[PATCH_KERNEL], old.patch, new.patch)
    if new.grid != old.grid and old.core.position.kind == "learned":
        if new.padding == "columns" and new.grid[1] != old.grid[1]:
            raise ValueError(f"image_size = {new.size} must have {old.size[1]} columns: their positions are a table")
        for axis, name in enumerate(sorted(name for name in kept if name.startswith(POSITIONS))):
            kept[name] = resample_positions(kept[name], old, new.grid, axis)
    return kept


def fold_whitening(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the same outputs where patches are not whitened: that becomes a part of the patch map."""
    folded = dict(weights)
    if WHITENING in folded:
        folded[PATCH_KERNEL] = folded[PATCH_KERNEL] @ folded.pop(WHITENING)
    return folded


def resample_kernel(weight: Tensor, old: Sides, new: Sides) -> Tensor:
    """A patch map for patches of another size: (D, C p q) -> (D, C p' q') (Beyer 2023, FlexiViT: PI-resize)."""
    from timm.layers import resample_patch_embed

    return resample_patch_embed(weight.unflatten(1, (-1, *rows_and_columns(old))), [*rows_and_columns(new)]).flatten(1)


def resample_positions(table: Tensor, old: ViTConfig, grid: Sides, axis: int = 0) -> Tensor:
    """A table of positions, of a grid or of its axis `axis`, for another grid of patches, bicubic."""
    from timm.layers import resample_abs_pos_embed

    new = rows_and_columns(grid)
    if old.coordinates == "raster":
        learned, sizes = old.learned_tokens, ([*new], [*old.grid])
    else:
        learned, sizes = min(1, old.learned_tokens), ([1, new[axis]], [1, old.grid[axis]])
    return resample_abs_pos_embed(table.unsqueeze(0), *sizes, num_prefix_tokens=learned)[0]
