"""The shape of an image model."""

from dataclasses import dataclass, field
from typing import Literal

from core.checks import check_at_least, check_choices
from core.config import TransformerConfig
from vision.sides import Sides, check_sides, rows_and_columns, shortest

Padding = Literal["none", "columns"]
"""What of an image may be padding."""
DROPPED = ("dropout", "attention_dropout", "drop_path")
"""Fields of the core that matter while training alone: weights fit whatever they are."""


@dataclass(frozen=True)
class ViTConfig:
    """The shape of a Vision Transformer."""

    image_size: Sides = 32
    """Side of the images, in pixels, or rows and columns; images of another size are resized to it."""
    channels: int = 0
    """Colour channels: 3, or 1 for grey; 0 = what the data has."""
    classes: int = 0
    """Number of classes; 0 = what the data has."""
    patch: Sides = 4
    """Side of a patch, in pixels, or rows and columns; with the tokenizer conv, by how much it shrinks the image, a
    power of 2."""
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
    coordinate_side: Sides | None = None
    """Side of the grid whose coordinates patches have, or its rows and columns, if it is not the model's own: after a
    change of size."""
    padding: Padding = "none"
    """columns: images may end in columns of zeros that are no part of them, as sounds of different lengths do: no token
    attends to such patches, the head does not read them, and there may be any number of them."""
    final_norm: Literal["tokens", "pooled"] = "tokens"
    """Whether the last normalisation comes before the pooling or after it."""
    core: TransformerConfig = field(default_factory=TransformerConfig)
    """The shape of the blocks."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_sides(self, "image_size", "patch", "coordinate_side")
        for name in ("image_size", "patch", "coordinate_side"):  # two equal sides are said as one
            if isinstance(sides := getattr(self, name), tuple):
                object.__setattr__(self, name, shortest(*sides))
        check_at_least(self, 0, "channels", "classes", "registers")
        if any(side % patch for side, patch in zip(self.size, rows_and_columns(self.patch), strict=True)):
            raise ValueError(f"patch = {self.patch} must divide image_size = {self.image_size}")
        halves = isinstance(self.patch, int) and self.patch > 1 and not self.patch & (self.patch - 1)
        if self.tokenizer == "conv" and not halves:
            raise ValueError(f"patch = {self.patch} must be a power of 2 for tokenizer = 'conv', which halves images")
        if self.tokenizer == "conv" and self.inputs == "whitened":
            raise ValueError("inputs = 'whitened' needs tokenizer = 'patches': a conv tokenizer reads pixels")
        if self.padding == "columns" and self.coordinates != "grid":
            raise ValueError(f"padding = 'columns' needs coordinates = 'grid', not {self.coordinates!r}")
        if self.coordinate_side is not None and not self.continuous:
            raise ValueError(
                f"coordinate_side = {self.coordinate_side} needs coordinates = 'grid' and positions that take "
                f"fractions, not {self.core.position.kind!r}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of pixels."""
        return rows_and_columns(self.image_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        (rows, columns), (p, q) = self.size, rows_and_columns(self.patch)
        return rows // p, columns // q

    @property
    def coordinate_grid(self) -> tuple[int, int]:
        """Rows and columns of the grid whose coordinates patches have."""
        return self.grid if self.coordinate_side is None else rows_and_columns(self.coordinate_side)

    @property
    def continuous(self) -> bool:
        """Whether coordinates may be fractions, so that the model takes images of another size."""
        return self.coordinates == "grid" and self.core.position.kind not in ("learned", "t5")

    @property
    def learned_tokens(self) -> int:
        """Tokens before the patches: the class token, if there is one, then the registers."""
        return (self.pool == "class") + self.registers
