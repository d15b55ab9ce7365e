"""How stored pixels become a model's input; kept in the run folder, so that a reloaded model is complete."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from core.checks import check_choices
from core.files.json_files import read_json, write_json
from core.files.serialize import from_dict, to_dict
from vision.data.files import Fit, Layout, read_stored
from vision.data.spectrograms import SoundConfig
from vision.sides import Sides, check_sides, rows_and_columns

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
    side: Sides
    """Height and width of stored images, in pixels: one number where they are the same."""
    crop: float = 1.0
    """Side of the central part that the model is given, as a fraction of the largest of the model's shape."""
    fit: Fit = "crop"
    """How images get their shape before they are stored: their centre, all of it between bars, or distorted."""
    sound: SoundConfig | None = None
    """How sounds become images, where the files are sounds; none = they are images."""

    def __post_init__(self) -> None:
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"classes = {self.classes!r} must be two different names or more")
        if self.channels not in (1, 3):
            raise ValueError(f"channels = {self.channels!r} must be 1 or 3")
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            raise ValueError(f"mean = {self.mean} and std = {self.std} must be {self.channels} numbers, std above 0")
        check_sides(self, "side")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop = {self.crop!r} must be above 0 and at most 1")
        check_choices(self)

    @property
    def layout(self) -> Layout:
        """How images are stored."""
        return Layout(self.channels, self.side, self.fit, self.sound)

    def __call__(self, pixels: Tensor, size: Sides) -> Tensor:
        """uint8 (B, C, H, W) -> float32 (B, C, *size), on the device of `pixels`; size: a side, or rows and columns."""
        return self.normalise(self.resize(pixels, size))

    def resize(self, pixels: Tensor, size: Sides) -> Tensor:
        """uint8 (B, C, H, W) -> float32 (B, C, *size) in 0..1.

        The central part, `crop` of the largest one of that shape; then, unless it has that size, bicubic with
        antialiasing.
        """
        (height, width), (rows, columns) = pixels.shape[-2:], rows_and_columns(size)
        tall = max(1, round(min(height, width * rows / columns) * self.crop))
        wide = max(1, round(min(width, height * columns / rows) * self.crop))
        top, left = (height - tall) // 2, (width - wide) // 2
        images = pixels[..., top : top + tall, left : left + wide].float() / 255
        if (tall, wide) == (rows, columns):
            return images
        return F.interpolate(images, size=(rows, columns), mode="bicubic", antialias=True).clamp(0, 1)

    def normalise(self, images: Tensor) -> Tensor:
        """Floats (..., C, H, W) in 0..1, less the mean, divided by the standard deviation.

        Of sounds, columns of zeros stay zeros: there is no sound.
        """
        normal = (images - per_channel(self.mean, images.device)) / per_channel(self.std, images.device)
        return normal if self.sound is None else normal * (images.amax((-3, -2), keepdim=True) > 0)

    def restore(self, images: Tensor) -> Tensor:
        """The pixels of normalised images: floats (..., C, H, W) -> uint8, those out of range black or white."""
        pixels = images.float() * per_channel(self.std, images.device) + per_channel(self.mean, images.device)
        return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)

    def read(self, path: Path | str) -> Tensor:
        """An image file as it would be stored: uint8 (C, H, W). Raises as `vision.data.files.read_image` does."""
        return read_stored(path, self.layout).pixels

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
