"""Spectrograms varied: time and frequency stretched, bands turned up or down, parts hidden (SpecAugment, Park 2019).

All on the device, a batch at once: uint8 (B, 1, bands, windows), where columns of zeros follow the end of a sound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vision.augmentation.config import SLIDERS, SoundAugment
from vision.data.spectrograms import LEVELS, used_columns


def vary(pixels: Tensor, numbers: Tensor, config: SoundAugment, filling: int) -> Tensor:
    """uint8 (B, C, H, W) -> the same.

    numbers: float64 (B, config.numbers), uniform in [0, 1). filling: the pixel of what is hidden, in 1..255.
    """
    drawn = 2 * config.time_masks, 2 * config.pitch_masks, SLIDERS * bool(config.equaliser)
    stretches, times, bands, sliders = numbers.split((2, *drawn), 1)
    if config.time_stretch or config.pitch_stretch:
        pixels = stretch(pixels, *factors(stretches, (config.time_stretch, config.pitch_stretch)))
    if config.equaliser:
        pixels = equalise(pixels, (2 * sliders - 1) * config.equaliser)
    times, bands = times.unflatten(1, (-1, 2)), bands.unflatten(1, (-1, 2))  # (B, M, 2) each
    columns = used_columns(pixels)
    hidden = between(times, columns, config.time_share, pixels.shape[-1])[:, None]  # (B, 1, W)
    rows = torch.full_like(columns, pixels.shape[-2])
    hidden = hidden | between(bands, rows, config.pitch_share, pixels.shape[-2])[..., None]  # (B, H, W)
    return torch.where(hidden[:, None] & (pixels > 0), filling, pixels)


def factors(numbers: Tensor, most: tuple[float, float]) -> Tensor:
    """Log-uniform in 1 / (1 + most) .. 1 + most, for time and for pitch: (B, 2) in [0, 1) -> float32 (2, B)."""
    largest = torch.tensor(most, dtype=numbers.dtype, device=numbers.device).log1p()
    return ((2 * numbers - 1) * largest).exp().float().T


def stretch(pixels: Tensor, time: Tensor, pitch: Tensor) -> Tensor:
    """Spectrograms as long as `time` times their duration, and every band at `pitch` times its height: (B,) each.

    Height is counted in rows from the lowest; what is above the highest or beyond the last column is lost. Linear
    between the pixels. uint8 (B, C, H, W) -> the same.
    """
    (height, width), before = pixels.shape[-2:], used_columns(pixels)  # (B,)
    after = (before * time).round().clamp(1, width).long()
    places = torch.arange(width, device=pixels.device)
    columns = (places + 0.5) / time[:, None] - 0.5  # (B, W)
    columns = torch.minimum(columns.clamp(min=0), (before[:, None] - 1).clamp(min=0).float())
    up = torch.arange(height - 1, -1, -1, device=pixels.device)  # rows begin with the highest
    rows = height - 1 - (up / pitch[:, None]).clamp(max=height - 1)  # (B, H)
    images = interpolate(interpolate(pixels.float(), rows, 2), columns, 3)
    real = places < after[:, None]  # (B, W)
    return (images.round().clamp(min=1) * real[:, None, None]).to(torch.uint8)


def equalise(pixels: Tensor, gains: Tensor) -> Tensor:
    """Bands made louder by gains (B, G) at G places, the lowest band first, and linearly between them.

    A gain is a share of all that a pixel may say. uint8 (B, C, H, W) -> the same.
    """
    height, knots = pixels.shape[-2], gains.shape[1]
    up = torch.linspace(knots - 1, 0, height, device=pixels.device)  # rows begin with the highest
    levels = LEVELS * interpolate(gains.float()[:, None, :, None], up.expand(len(gains), -1), 2)  # (B, 1, H, 1)
    louder = (pixels + levels).round().clamp(1, LEVELS + 1).to(torch.uint8)
    return torch.where(pixels > 0, louder, pixels)


def interpolate(images: Tensor, places: Tensor, axis: int) -> Tensor:
    """Values at fractional places along an axis: float (B, C, H, W), (B, P) -> the axis is P long."""
    shape = [1, 1, 1, 1]
    shape[0], shape[axis] = places.shape
    size = [*images.shape]
    size[axis] = places.shape[1]
    below = places.floor().long().view(shape)
    share = (places - places.floor()).view(shape)
    above = (below + 1).clamp(max=images.shape[axis] - 1)
    low, high = (images.gather(axis, index.expand(size)) for index in (below, above))
    return torch.lerp(low, high, share)


def between(numbers: Tensor, sizes: Tensor, share: float, length: int) -> Tensor:
    """Places that lie in a stretch of at most `share` of a size: (B, M, 2) in [0, 1), int64 (B,) -> bool (B, length).

    How long a stretch is and where it begins are uniform (Park 2019, section 2).
    """
    widths = (numbers[..., 0] * ((share * sizes).floor() + 1)[:, None]).floor()  # (B, M)
    starts = (numbers[..., 1] * (sizes[:, None] - widths + 1)).floor()
    places = torch.arange(length, device=numbers.device)
    inside = (places >= starts[..., None]) & (places < (starts + widths)[..., None])  # (B, M, length)
    return inside.any(1)
