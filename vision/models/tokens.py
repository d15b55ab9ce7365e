"""From images to tokens and their coordinates, (row, column)."""

from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from core.init import Initials
from core.positions import index
from vision.models.config import ViTConfig


def patchify(images: Tensor, patch: int) -> Tensor:
    """Squares of `patch` x `patch` pixels in reading order: (B, C, H, W) -> (B, N, C patch patch).

    Raises ValueError when the sides are no multiples of the patch.
    """
    height, width = images.shape[-2:]
    if height % patch or width % patch:
        raise ValueError(f"an image of {height} x {width} pixels cannot be cut into patches of {patch} x {patch}")
    return rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch)


def grid(side: int, scaled_to: int | None = None, device: torch.device | None = None) -> Tensor:
    """(row, column) of a square grid in reading order: (side^2, 2), int64.

    scaled_to: side of another grid over the same image, whose coordinates are used instead: float32.
    """
    coords = torch.arange(side, device=device)
    if scaled_to is not None:
        coords = (coords + 0.5) * (scaled_to / side) - 0.5  # centres of the squares
    return torch.cartesian_prod(coords, coords)


class PatchEmbedding(nn.Module):
    """One linear map of every patch (Dosovitskiy 2021, eq. 1): (B, C, S, S) -> (B, N, D)."""

    def __init__(self, channels: int, patch: int, dim: int):
        super().__init__()
        self.patch = patch
        self.project = nn.Linear(channels * patch * patch, dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.project(self.read(images))

    def read(self, images: Tensor) -> Tensor:
        """The inputs of the map: (B, N, C patch patch)."""
        return patchify(images, self.patch)


class WhitenedPatchEmbedding(PatchEmbedding):
    """The same map of whitened patches: it can represent the same functions, but learns sooner (docs/lab-notes.md)."""

    def __init__(self, channels: int, patch: int, dim: int):
        super().__init__(channels, patch, dim)
        self.register_buffer("whitening", torch.eye(channels * patch * patch))
        self.whitening: Tensor

    def read(self, images: Tensor) -> Tensor:
        return F.linear(super().read(images), self.whitening)

    @torch.no_grad()
    def fit(self, images: Tensor, floor: float = 1e-2) -> None:
        """Computes the whitening from the patches of normalised training images (N, C, S, S).

        Rows of the matrix are principal components over the root of their variance (Hyvarinen 2000, section 5.2);
        `floor` is added to the variances, so that directions of hardly any variance are not amplified.
        """
        patches = super().read(images).flatten(0, 1).double()  # (N patches, C patch patch)
        variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
        self.whitening.copy_((components * (variances + floor).rsqrt()).T)


class ConvTokenizer(nn.Module):
    """Convolution, ReLU, max pooling, each halving the side (Hassani 2021, CCT, eq. 1): (B, C, S, S) -> (B, N, D)."""

    def __init__(self, channels: int, layers: int, dim: int):
        super().__init__()
        widths = [channels, *[64] * (layers - 1), dim]
        self.layers = nn.Sequential(*(self._layer(*pair) for pair in pairwise(widths)))

    def forward(self, images: Tensor) -> Tensor:
        return rearrange(self.layers(images), "b d h w -> b (h w) d")

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
            self.patches: nn.Module = ConvTokenizer(channels, patch.bit_length() - 1, dim)
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
        """(B, C, S, S) -> tokens (B, T, D), coordinates (T, 1 or 2)."""
        x, coords = self.patches(images), self.locate(images.shape[-1] // self.config.patch, images.device)
        if self.learned is not None:
            learned = self.learned.to(x.dtype).expand(x.shape[0], -1, -1)  # (B, P, D)
            x = torch.cat((learned, x), dim=1)  # (B, P + N, D)
        return x, coords

    def locate(self, side: int | None = None, device: torch.device | None = None) -> Tensor:
        """Coordinates of the tokens: learned ones come before the first row and column, or first in the sequence.

        side: patches along a side; if it is not the model's own, coordinates are still those of the model's own grid.
        Raises ValueError for another side where positions take whole coordinates only.
        """
        c = self.config
        side = c.side if side is None else side
        if side != c.side and not c.continuous:
            raise ValueError(f"images have {side} patches along a side; this model has positions for {c.side} only")
        if c.coordinates == "raster":
            return index(c.learned_tokens + side**2, device=device)  # (T, 1)
        scale = c.coordinate_side or c.side
        coords = grid(side, None if side == scale else scale, device)  # (N, 2)
        if not c.learned_tokens:
            return coords
        return torch.cat((coords.new_zeros(c.learned_tokens, 2), coords + 1))  # (P + N, 2)

    @property
    def extent(self) -> tuple[int, ...]:
        """The number of coordinates along each axis."""
        c = self.config
        if c.coordinates == "raster":
            return (c.learned_tokens + c.side**2,)
        side = (c.coordinate_side or c.side) + bool(c.learned_tokens)
        return (side, side)
