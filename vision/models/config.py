"""The shape of an image model."""

from dataclasses import dataclass, field
from typing import Literal

from core.checks import check_at_least, check_choices, check_positive
from core.config import TransformerConfig

DROPPED = ("dropout", "attention_dropout", "drop_path")
"""Fields of the core that matter while training alone: weights fit whatever they are."""


@dataclass(frozen=True)
class ViTConfig:
    """The shape of a Vision Transformer."""

    image_size: int = 32
    """Side of the (square) images, in pixels; images of another size are resized to it."""
    channels: int = 0
    """Colour channels: 3, or 1 for grey; 0 = what the data has."""
    classes: int = 0
    """Number of classes; 0 = what the data has."""
    patch: int = 4
    """Side of a patch, in pixels; with the tokenizer conv, by how much it shrinks the image, a power of 2."""
    tokenizer: Literal["patches", "conv"] = "patches"
    """A linear map of each patch (ViT), or convolutions with pooling (CCT)."""
    inputs: Literal["pixels", "whitened"] = "pixels"
    """What the patch map reads: pixels, or patches whitened by the statistics of the training images."""
    pool: Literal["mean", "class", "attention"] = "mean"
    """What the head reads: the mean of the patches, a class token, or an attention-weighted mean (CCT's SeqPool)."""
    registers: int = 0
    """Learned tokens beside the patches that the head does not read (Darcet 2024)."""
    coordinates: Literal["grid", "raster"] = "grid"
    """Coordinates of a patch: (row, column), or its number in reading order, as the ViT paper's learned positions."""
    coordinate_side: int | None = None
    """Side of the grid whose coordinates patches have, if it is not the model's own: after a change of size."""
    final_norm: Literal["tokens", "pooled"] = "tokens"
    """Whether the last normalisation comes before the pooling or after it."""
    core: TransformerConfig = field(default_factory=TransformerConfig)
    """The shape of the blocks."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "image_size", "patch", "coordinate_side")
        check_at_least(self, 0, "channels", "classes", "registers")
        if self.image_size % self.patch:
            raise ValueError(f"patch = {self.patch} must divide image_size = {self.image_size}")
        if self.tokenizer == "conv" and (self.patch < 2 or self.patch & (self.patch - 1)):
            raise ValueError(f"patch = {self.patch} must be a power of 2 for tokenizer = 'conv', which halves images")
        if self.tokenizer == "conv" and self.inputs == "whitened":
            raise ValueError("inputs = 'whitened' needs tokenizer = 'patches': a conv tokenizer reads pixels")
        if self.coordinate_side is not None and not self.continuous:
            raise ValueError(
                f"coordinate_side = {self.coordinate_side} needs coordinates = 'grid' and positions that take "
                f"fractions, not {self.core.position.kind!r}"
            )

    @property
    def side(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch

    @property
    def continuous(self) -> bool:
        """Whether coordinates may be fractions, so that the model takes images of another size."""
        return self.coordinates == "grid" and self.core.position.kind not in ("learned", "t5")

    @property
    def learned_tokens(self) -> int:
        """Tokens before the patches: the class token, if there is one, then the registers."""
        return (self.pool == "class") + self.registers
