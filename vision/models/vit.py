"""Image models: embedding -> core -> head, a few lines each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from core.checks import check_choices, check_positive
from core.config import TransformerConfig
from core.graph import full
from core.init import initialise
from core.transformer import EVERY, Transformer
from vision.models.tokens import ImageTokens

INTEGER_POSITIONS = ("learned", "t5")
"""Kinds of positions that know whole coordinates only."""


@dataclass(frozen=True)
class ViTConfig:
    """The shape of a Vision Transformer."""

    image_size: int = 32
    """Side of the (square) images, in pixels; others are brought to it."""
    channels: int = 0
    """Colour channels: 3, or 1 for grey; 0 = what the data has."""
    classes: int = 0
    """Number of classes; 0 = what the data has."""
    patch: int = 4
    """Side of a patch, in pixels; with the tokenizer conv, by how much it shrinks the image, a power of 2."""
    tokenizer: Literal["patches", "conv"] = "patches"
    """A linear map of each patch (ViT), or convolutions with pooling (CCT)."""
    inputs: Literal["pixels", "whitened"] = "pixels"
    """What the map of patches reads: pixels, or patches whitened by the statistics of the training images."""
    pool: Literal["mean", "class", "attention"] = "mean"
    """What the head reads: the mean of the patches, a class token, or an attention-weighted mean (CCT's SeqPool)."""
    registers: int = 0
    """Learned tokens beside the patches that nobody reads (Darcet 2024)."""
    coordinates: Literal["grid", "raster"] = "grid"
    """Where a patch is: (row, column), or its number in reading order, as the ViT paper's learned positions have it."""
    coordinate_side: int | None = None
    """Side of the grid in whose coordinates patches are told, if it is not the model's own: after a change of size."""
    final_norm: Literal["tokens", "pooled"] = "tokens"
    """Whether the last normalisation comes before the pooling or after it."""
    core: TransformerConfig = field(default_factory=TransformerConfig)
    """The shape of the blocks."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "image_size", "patch", "coordinate_side")
        for name in ("channels", "classes", "registers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 0")
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
        """Whether places between those of the grid mean something, so that images of another size may pass through."""
        return self.coordinates == "grid" and self.core.position.kind not in INTEGER_POSITIONS

    @property
    def learned_tokens(self) -> int:
        """Tokens before the patches: the class token, if there is one, then the registers."""
        return (self.pool == "class") + self.registers


class ViT(nn.Module):
    """A Vision Transformer (Dosovitskiy 2021), or a Compact Convolutional one (Hassani 2021) by its tokens."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        for name in ("channels", "classes"):
            if not getattr(config, name):
                raise ValueError(f"{name} = 0: set it to the data's before building the model")
        self.config = config
        self.embed = ImageTokens(config)
        self.core = Transformer(config.core, self.embed.extent)
        self.norm: nn.Module = nn.Identity()
        if config.final_norm == "pooled":
            self.norm, self.core.norm = self.core.norm, nn.Identity()
        self.pool = Pool(config)
        self.head = nn.Linear(config.core.dim, config.classes)
        initialise(config.core, {self.head: "head", **self.embed.initials()})

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the classes: images (B, C, S, S), normalised -> (B, K).

        S is image_size, or any multiple of the patch where positions are continuous.
        """
        return self.head(self.pooled(images))

    def features(self, images: Tensor, read: slice = EVERY) -> Tensor:
        """Tokens after the core: (B, C, S, S) -> (B, T, D), or only the tokens in `read`."""
        x, coords = self.embed(images)
        return self.core(x, coords, full(), read=read)

    def pooled(self, images: Tensor) -> Tensor:
        """One vector for each image, which the head reads: (B, C, S, S) -> (B, D)."""
        return self.norm(self.pool(self.features(images, self.pool.read)))

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.roles`)."""
        below, *blocks = self.core.layered_modules()
        return [[self.embed, *below], *blocks]

    def no_weight_decay(self) -> set[str]:
        """Parameters of two axes that are no matrices: learned tokens, and tables of positions."""
        tables = {f"core.position.{name}" for name, _ in self.core.position.named_parameters()}
        return tables | ({"embed.learned"} if self.embed.learned is not None else set())


class Pool(nn.Module):
    """One vector for an image, from the tokens that it has the core `read`: (B, N, D) -> (B, D)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.read = slice(0, 1) if config.pool == "class" else slice(config.learned_tokens, None)
        self.attention = nn.Linear(config.core.dim, 1) if config.pool == "attention" else None

    def forward(self, x: Tensor) -> Tensor:
        if self.attention is None:
            return x.mean(1)
        weights = self.attention(x).softmax(1)  # (B, N, 1); Hassani 2021, eq. 3
        return (weights * x).sum(1)
