"""Weights for another image size, patch size or set of classes: positions and patch kernels resampled as timm does."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from core.config import TransformerConfig
from vision.models.config import DROPPED, ViTConfig

PATCH_KERNEL = "embed.patches.project.weight"
WHITENING = "embed.patches.whitening"
POSITIONS = "core.position.tables"
HEAD = "head."


def resized(config: ViTConfig, image_size: int, patch: int) -> ViTConfig:
    """The configuration of the same model for other images.

    Continuous coordinates keep their scale; where the patch changes, whitening becomes a part of the patch map.
    """
    if patch != config.patch:
        config = replace(config, inputs="pixels")
    if config.tokenizer == "conv" and patch != config.patch:
        raise ValueError(f"patch = {patch} must stay {config.patch}: a conv tokenizer cannot be resampled")
    side, scale = image_size // patch, config.coordinate_side or config.side
    own = side == scale or not config.continuous
    return replace(config, image_size=image_size, patch=patch, coordinate_side=None if own else scale)


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
    if new.side != old.side and old.core.position.kind == "learned":
        for name in [name for name in kept if name.startswith(POSITIONS)]:
            kept[name] = resample_positions(kept[name], old, new.side)
    return kept


def fold_whitening(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the same outputs where patches are not whitened: that becomes a part of the patch map."""
    folded = dict(weights)
    if WHITENING in folded:
        folded[PATCH_KERNEL] = folded[PATCH_KERNEL] @ folded.pop(WHITENING)
    return folded


def resample_kernel(weight: Tensor, old: int, new: int) -> Tensor:
    """A patch map for patches of another size: (D, C old old) -> (D, C new new) (Beyer 2023, FlexiViT: PI-resize)."""
    from timm.layers import resample_patch_embed

    return resample_patch_embed(weight.unflatten(1, (-1, old, old)), [new, new]).flatten(1)


def resample_positions(table: Tensor, old: ViTConfig, side: int) -> Tensor:
    """A table of positions, of a grid or of one of its axes, for another number of patches along a side, bicubic."""
    from timm.layers import resample_abs_pos_embed

    if old.coordinates == "raster":
        learned, sizes = old.learned_tokens, ([side, side], [old.side, old.side])
    else:
        learned, sizes = min(1, old.learned_tokens), ([1, side], [1, old.side])
    return resample_abs_pos_embed(table.unsqueeze(0), *sizes, num_prefix_tokens=learned)[0]
