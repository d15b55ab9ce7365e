"""From images to tokens and their coordinates, (row, column)."""

import math
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from core.devices import has_values
from core.init import Initials
from core.positions import index
from vision.data.spectrograms import used_columns
from vision.models.config import Padding, ViTConfig
from vision.sides import Sides, in_words, rows_and_columns


def patchify(images: Tensor, patch: Sides) -> Tensor:
    """Rectangles of p x q pixels in reading order: (B, C, H, W) -> (B, N, C p q).

    Raises ValueError when the sides are no multiples of the patch's.
    """
    (height, width), (p, q) = images.shape[-2:], rows_and_columns(patch)
    if height % p or width % q:
        raise ValueError(f"an image of {height} x {width} pixels cannot be cut into patches of {p} x {q}")
    return rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=q)


def grid(sides: Sides, scaled_to: Sides | None = None, device: torch.device | None = None) -> Tensor:
    """(row, column) of a grid of h x w in reading order: (h w, 2), int64.

    scaled_to: sides of another grid over the same image, whose coordinates are used instead: float32.
    """
    axes = [torch.arange(side, device=device) for side in rows_and_columns(sides)]
    if scaled_to is not None:
        scales = rows_and_columns(scaled_to)
        axes = [(axis + 0.5) * (scale / len(axis)) - 0.5 for axis, scale in zip(axes, scales, strict=True)]  # centres
    return torch.cartesian_prod(*axes)


class PatchEmbedding(nn.Module):
    """One linear map of every patch (Dosovitskiy 2021, eq. 1): (B, C, H, W) -> (B, N, D)."""

    def __init__(self, channels: int, patch: Sides, dim: int):
        super().__init__()
        self.patch = patch
        self.project = nn.Linear(channels * math.prod(rows_and_columns(patch)), dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.project(self.read(images))

    def read(self, images: Tensor) -> Tensor:
        """The inputs of the map: (B, N, C p q)."""
        return patchify(images, self.patch)


class WhitenedPatchEmbedding(PatchEmbedding):
    """The same map of whitened patches: it can represent the same functions, but learns sooner (docs/lab-notes.md)."""

    def __init__(self, channels: int, patch: Sides, dim: int):
        super().__init__(channels, patch, dim)
        self.register_buffer("whitening", torch.eye(self.project.in_features))
        self.whitening: Tensor

    def read(self, images: Tensor) -> Tensor:
        return F.linear(super().read(images), self.whitening)

    @torch.no_grad()
    def fit(self, images: Tensor, floor: float = 1e-2) -> None:
        """Computes the whitening from the patches of normalised training images (N, C, H, W).

        Rows of the matrix are principal components over the root of their variance (Hyvarinen 2000, section 5.2);
        `floor` is added to the variances, so that directions of hardly any variance are not amplified.
        """
        patches = super().read(images).flatten(0, 1).double()  # (N patches, C p q)
        patches = patches[patches.any(1)]  # without padding
        variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
        self.whitening.copy_((components * (variances + floor).rsqrt()).T)


class ConvTokenizer(nn.Module):
    """Convolution, ReLU, max pooling, each halving the side (Hassani 2021, CCT, eq. 1): (B, C, H, W) -> (B, N, D).

    padding: "columns" where images may end in columns of zeros. These stay zeros in every layer, so that what an image
    becomes does not depend on how many there are.
    """

    def __init__(self, channels: int, layers: int, dim: int, padding: Padding = "none"):
        super().__init__()
        widths = [channels, *[64] * (layers - 1), dim]
        self.layers, self.padding = nn.Sequential(*(self._layer(*pair) for pair in pairwise(widths))), padding

    def forward(self, images: Tensor) -> Tensor:
        images = images.clone(memory_format=torch.channels_last)  # convolutions take half the time; one channel too
        x = self._unpadded(images) if self.padding == "columns" else self.layers(images)
        return rearrange(x, "b d h w -> b (h w) d")

    def _unpadded(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, h, w)."""
        used = used_columns(x)
        for layer in self.layers:
            x, used = layer(x), (used + 1) // 2
            x = x * (torch.arange(x.shape[-1], device=x.device) < used[:, None])[:, None, None]
        return x

    @staticmethod
    def _layer(inputs: int, outputs: int) -> nn.Module:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight)
        return nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))


class ImageTokens(nn.Module):
    """Tokens of an image: first the learned ones (class, registers), which lie outside it, then its patches."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        channels, patch, dim = config.channels, config.patch, config.core.dim
        if config.tokenizer == "conv":
            self.patches: nn.Module = ConvTokenizer(
                channels, rows_and_columns(patch)[0].bit_length() - 1, dim, config.padding
            )
        else:
            kind = WhitenedPatchEmbedding if config.inputs == "whitened" else PatchEmbedding
            self.patches = kind(channels, patch, dim)
        self.learned = nn.Parameter(torch.zeros(config.learned_tokens, dim)) if config.learned_tokens else None

    def initials(self) -> Initials:
        """How its weights begin."""
        table: Initials = {}
        if isinstance(self.patches, PatchEmbedding):
            table[self.patches.project] = "unit-scale"
        return table if self.learned is None else {**table, self.learned: "embedding"}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> tokens (B, T, D), coordinates (T, 1 or 2)."""
        (height, width), (p, q) = images.shape[-2:], rows_and_columns(self.config.patch)
        x, coords = self.patches(images), self.locate((height // p, width // q), images.device)
        if self.learned is not None:
            learned = self.learned.to(x.dtype).expand(x.shape[0], -1, -1)  # (B, P, D)
            x = torch.cat((learned, x), dim=1)  # (B, P + N, D)
        return x, coords

    def cut(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images without the columns that are padding in all of them, and which tokens are not: bool (B, T).

        None instead where all tokens are those of an image. (B, C, H, W) -> (B, C, H, W').
        """
        if self.config.padding == "none":
            return images, None
        (rows, columns), width = rows_and_columns(self.config.patch), images.shape[-1]
        images = F.pad(images, (0, -width % columns))
        used = (used_columns(images) + columns - 1) // columns  # (B,), of patches
        if has_values(used):  # else one shape is wanted
            images = images[..., : max(1, int(used.max())) * columns]
            if bool((used * columns >= images.shape[-1]).all()):
                return images, None
        real = torch.arange(images.shape[-1] // columns, device=images.device) < used.clamp(min=1)[:, None]  # (B, w)
        real = real[:, None].expand(-1, images.shape[-2] // rows, -1).flatten(1)  # (B, h w)
        return images, F.pad(real, (self.config.learned_tokens, 0), value=True)

    def locate(self, sides: Sides | None = None, device: torch.device | None = None) -> Tensor:
        """Coordinates of the tokens: learned ones come before the first row and column, or first in the sequence.

        sides: of the grid of patches; if they are not the model's own, coordinates are still those of the model's own
        grid, but for columns that may be padding. Raises ValueError for other sides where positions take whole
        coordinates only.
        """
        c = self.config
        sides = c.grid if sides is None else rows_and_columns(sides)
        scale = c.coordinate_grid
        if c.padding == "columns":
            scale = (scale[0], sides[1])
        fits = sides == c.grid or (sides == scale and sides[1] <= c.grid[1])
        if not fits and not c.continuous:
            raise ValueError(f"images have {in_words(sides)} patches; this model has positions for {in_words(c.grid)}")
        if c.coordinates == "raster":
            return index(c.learned_tokens + math.prod(sides), device=device)  # (T, 1)
        coords = grid(sides, None if sides == scale else scale, device)  # (N, 2)
        if not c.learned_tokens:
            return coords
        return torch.cat((coords.new_zeros(c.learned_tokens, 2), coords + 1))  # (P + N, 2)

    @property
    def extent(self) -> tuple[int, ...]:
        """The number of coordinates along each axis."""
        c = self.config
        if c.coordinates == "raster":
            return (c.learned_tokens + math.prod(c.grid),)
        rows, columns = c.coordinate_grid
        return (rows + bool(c.learned_tokens), columns + bool(c.learned_tokens))
