"""How stored pixels become a model's input; kept in the run folder, so that a reloaded model is complete."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from core.checks import check_choices, check_positive
from core.files.json_files import read_json, write_json
from core.files.serialize import from_dict, to_dict
from vision.data.files import Fit, Layout, read_square

FILE = "images.json"


@dataclass(frozen=True)
class Preparation:
    """From uint8 pixels to normalised floats, for evaluation and for use."""

    classes: tuple[str, ...]
    """Their names, by label."""
    channels: int
    """1 (grey) or 3 (red, green, blue)."""
    mean: tuple[float, ...]
    """Per channel, of the training pixels in 0..1."""
    std: tuple[float, ...]
    """Per channel, of the training pixels in 0..1."""
    side: int
    """Height and width of stored images, in pixels."""
    crop: float = 1.0
    """Side of the central square that the model is given, as a fraction of the shorter side."""
    fit: Fit = "crop"
    """How images become squares before they are stored: their centre, all of it between bars, or distorted."""

    def __post_init__(self) -> None:
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"classes = {self.classes!r} must be two different names or more")
        if self.channels not in (1, 3):
            raise ValueError(f"channels = {self.channels!r} must be 1 or 3")
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            raise ValueError(f"mean = {self.mean} and std = {self.std} must be {self.channels} numbers, std above 0")
        check_positive(self, "side")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop = {self.crop!r} must be above 0 and at most 1")
        check_choices(self)

    @property
    def layout(self) -> Layout:
        """How images are stored."""
        return Layout(self.channels, self.side, self.fit)

    def __call__(self, pixels: Tensor, size: int) -> Tensor:
        """uint8 (B, C, H, W) -> float32 (B, C, size, size), on the device of `pixels`."""
        return self.normalise(self.resize(pixels, size))

    def resize(self, pixels: Tensor, size: int) -> Tensor:
        """uint8 (B, C, H, W) -> float32 (B, C, size, size) in 0..1.

        The central square, `crop` of the shorter side; then, unless it has that size, bicubic with antialiasing.
        """
        height, width = pixels.shape[-2:]
        edge = max(1, round(min(height, width) * self.crop))
        top, left = (height - edge) // 2, (width - edge) // 2
        images = pixels[..., top : top + edge, left : left + edge].float() / 255
        if edge == size:
            return images
        return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)

    def normalise(self, images: Tensor) -> Tensor:
        """Floats (..., C, H, W) in 0..1, less the mean, divided by the standard deviation."""
        return (images - per_channel(self.mean, images.device)) / per_channel(self.std, images.device)

    def restore(self, images: Tensor) -> Tensor:
        """The pixels of normalised images: floats (..., C, H, W) -> uint8, those out of range black or white."""
        pixels = images.float() * per_channel(self.std, images.device) + per_channel(self.mean, images.device)
        return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)

    def read(self, path: Path | str) -> Tensor:
        """An image file as it would be stored: uint8 (C, side, side). Raises as `vision.data.files.read_image` does."""
        return read_square(path, self.layout).pixels

    def save(self, folder: Path) -> None:
        """Writes `images.json`."""
        write_json(folder / FILE, to_dict(self))

    @classmethod
    def load(cls, folder: Path) -> Preparation:
        """Reads `images.json`; ValueError naming the file or the key if it is damaged."""
        return from_dict(cls, read_json(folder / FILE))


@lru_cache(maxsize=16)  # a copy to a GPU waits for it
def per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """float32 (C, 1, 1)."""
    return torch.tensor(values, device=device).view(-1, 1, 1)
