"""Changes of a batch of images at once, every image by parameters of its own, on whatever device they are on."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vision.sides import Sides, rows_and_columns

GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in luminance (ITU-R BT.601)."""


# Geometry


def shift(pixels: Tensor, offset: Tensor, flip: Tensor) -> Tensor:
    """Moves images, reflected at their borders, then mirrors some of them left to right.

    Place (y, x) shows what was at (y, x) + offset. pixels (B, C, H, W) of any dtype; offset int64 (B, 2), rows and
    columns, each smaller than its side; flip bool (B,) -> (B, C, H, W).
    """
    height, width = pixels.shape[-2:]
    rows = _reflected(torch.arange(height, device=pixels.device) + offset[:, :1], height)  # (B, H)
    columns = _reflected(torch.arange(width, device=pixels.device) + offset[:, 1:], width)  # (B, W)
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    places = (rows[:, :, None] * width + columns[:, None]).flatten(1)  # (B, H W)
    places = places[:, None].expand(-1, pixels.shape[1], -1)  # (B, C, H W), nothing copied
    return pixels.flatten(2).gather(2, places).view_as(pixels)


def resample(pixels: Tensor, box: Tensor, flip: Tensor, size: Sides) -> Tensor:
    """Resizes the inside of a box of each image, bilinear and antialiased, then mirrors some left to right.

    Both axes are resampled by a matrix (the triangle filter of Pillow and torch), whose entries outside the box
    are 0. pixels (B, C, H, W); box (B, 4): top, left, height and width in pixels; flip bool (B,) -> float32
    (B, C, *size) in the range of the pixels.
    """
    channels, height, width = pixels.shape[1:]
    tall, wide = rows_and_columns(size)
    rows = _triangles(box[:, 0], box[:, 2], height, tall)  # (B, S, H)
    columns = _triangles(box[:, 1], box[:, 3], width, wide)  # (B, T, W)
    columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    across = torch.bmm(pixels.float().flatten(1, 2), columns.transpose(1, 2))  # (B, C H, T)
    return torch.einsum("bsh,bcht->bcst", rows, across.unflatten(1, (channels, height)))


def warp(images: Tensor, matrix: Tensor) -> Tensor:
    """Maps images affinely, bilinear; what comes from outside is 0.

    Place p shows what was at matrix @ (p, 1), where p = (x, y) in pixels from the centre.
    images float (B, C, H, W); matrix (B, 2, 3) -> (B, C, H, W).
    """
    height, width = images.shape[-2:]
    half = ((1, height / width, 2 / width), (width / height, 1, 2 / height))  # torch counts in half sides
    unit = torch.tensor(half, device=matrix.device)  # (2, 3)
    grid = F.affine_grid(matrix * unit, list(images.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def erase(images: Tensor, box: Tensor, filling: Tensor | None = None) -> Tensor:
    """Sets the pixels inside a box to 0, or to those of `filling`.

    images and filling float (B, C, H, W); box int64 (B, 4): top, left, height and width, which may reach beyond the
    borders -> (B, C, H, W).
    """
    top, left, height, width = box[:, :, None].unbind(1)  # (B, 1) each
    rows = torch.arange(images.shape[-2], device=images.device)
    columns = torch.arange(images.shape[-1], device=images.device)
    down = (rows >= top) & (rows < top + height)  # (B, H)
    across = (columns >= left) & (columns < left + width)  # (B, W)
    inside = (down[:, None, :, None] & across[:, None, None, :]).float()  # (B, 1, H, W)
    kept = images * (1 - inside)
    return kept if filling is None else kept.addcmul_(filling, inside)


def _reflected(places: Tensor, size: int) -> Tensor:
    """Places up to size - 1 beyond either end of an axis, reflected at the middle of its first or last pixel."""
    return size - 1 - (size - 1 - places.abs()).abs()


def _triangles(start: Tensor, extent: Tensor, pixels: int, size: int) -> Tensor:
    """Weights by which `size` samples of [start, start + extent) read an axis of N pixels: 2 x (B,) -> (B, size, N)."""
    step = (extent / size).view(-1, 1, 1)  # pixels from sample to sample
    centre = start.view(-1, 1, 1) + (torch.arange(size, device=start.device).view(-1, 1) + 0.5) * step  # (B, S, 1)
    pixel = torch.arange(pixels, device=start.device)
    weight = 1 - (pixel + 0.5 - centre).abs() / step.clamp(min=1)  # (B, S, N)
    inside = (pixel >= start.view(-1, 1, 1)) & (pixel < (start + extent).view(-1, 1, 1))  # (B, 1, N)
    weight = weight.clamp(min=0) * inside
    return (weight / weight.sum(2, keepdim=True)).float()


# Colours: float images (B, C, H, W) in 0..255 -> the same; amounts (B, 1, 1, 1). One channel, or red, green and blue.


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplied by a factor."""
    return (images * factor).clamp(0, 255)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Factor 0 is grey, 1 the image, above 1 more colourful."""
    return _away(_grey(images), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Factor 0 is the image's mean grey everywhere, 1 the image, above 1 more contrast."""
    return _away(_grey(images).mean((1, 2, 3), keepdim=True), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Factor 0 is the image smoothed (3 x 3, the centre weighing 5 of 13), 1 the image; the outermost pixels stay."""
    if min(images.shape[-2:]) < 3:
        return images
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]  # (B, C, H - 2, W)
    boxes = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]  # (B, C, H - 2, W - 2)
    inner = images[..., 1:-1, 1:-1]
    result = images.clone()
    result[..., 1:-1, 1:-1] = _away((boxes + 4 * inner) / 13, inner, factor)
    return result


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Only the highest bits of each value are kept, a whole number of them after rounding."""
    step = 2 ** (8 - bits.round())
    return (images / step).floor() * step


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Values from a threshold on are inverted."""
    return torch.where(images >= threshold, 255 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Each channel stretched to the range 0..255; a channel of one value stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)  # (B, C, 1, 1)
    stretched = (images - low) / (high - low).clamp(min=1e-6) * 255
    return torch.where(high > low, stretched, images)


def equalize(images: Tensor) -> Tensor:
    """Each channel's histogram flattened, as Pillow does; a channel of one value stays."""
    levels = images.round().long().flatten(2)  # (B, C, H W)
    table = levels.new_zeros((*levels.shape[:2], 256))
    counts = table.scatter_add(2, levels, torch.ones_like(levels))  # (B, C, 256)
    below = counts.cumsum(2) - counts  # pixels darker than a level
    brightest = counts.gather(2, levels.amax(2, keepdim=True))
    step = (levels.shape[2] - brightest) // 255  # (B, C, 1): pixels to a step of the flat histogram
    flat = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    result = torch.where(step > 0, flat.gather(2, levels), levels)
    return result.view_as(images).to(images.dtype)


def _away(start: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """From `start` through the images: factor 0 is the start, 1 the images."""
    return (start + (images - start) * factor).clamp(0, 255)


def _grey(images: Tensor) -> Tensor:
    """Luminance: (B, C, H, W) -> (B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue
