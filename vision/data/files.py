"""One image file, whatever its format and mode, as 8-bit pixels; damaged and dangerous ones are refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
"""What counts as an image in a folder, in lower or upper case."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # no EPS, say, which would run Ghostscript
MAX_PIXELS = 1 << 27
"""The largest image read: 134 million pixels, a third more than cameras of 100 megapixels take."""
WHITE = (255, 255, 255, 255)
MARGIN = 2  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves this many times the pixels wanted


def read_image(path: Path | str, channels: int, side: int | None = None) -> Image:
    """An image file as a PIL image of mode RGB (3 channels) or L (1 channel: ITU-R 601-2 luma), upright.

    EXIF orientation is applied. Alpha and transparent colours are laid over white. CMYK, palettes and the like
    are converted by Pillow. 16-bit grey becomes 8-bit by v / 257. 32-bit integers count as 16-bit where they
    fit into it; floats as 0..1 or 0..255, whichever is the first that holds them; beyond, both are stretched
    from their least to their largest value. Of several frames the first is taken.

    side: pixels of the shorter side wanted at least; large JPEGs are then decoded at a fraction of their size.

    Raises ValueError naming the file: empty, not of FORMATS, damaged, cut off, above MAX_PIXELS (before it is
    decoded); OSError if there is no such file or it cannot be opened.
    """
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about odd metadata and about what MAX_PIXELS refuses
        if not file.read(1):
            raise ValueError(f"{path} is empty")
        file.seek(0)
        try:
            return _decode(file, channels, side)
        except Exception as error:  # decoders raise almost anything on damaged bytes
            raise ValueError(f"{path} cannot be read as an image: {_reason(error)}") from error


def read_pixels(path: Path | str, channels: int, side: int) -> Tensor:
    """An image file as uint8 (channels, side, side): its shorter side resized (antialiased), its centre cropped.

    Raises what `read_image` raises.
    """
    from PIL.Image import Resampling
    from PIL.ImageOps import fit

    image = fit(read_image(path, channels, side), (side, side), Resampling.BICUBIC)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(side, side, channels).permute(2, 0, 1).contiguous()  # (S, S, C) -> (C, S, S)


def _decode(file: BinaryIO, channels: int, side: int | None) -> Image:
    from PIL import Image, ImageOps

    opened = Image.open(file, formats=FORMATS)
    if opened.width * opened.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    if side is not None:
        opened.draft(None, (MARGIN * side, MARGIN * side))
    opened.load()
    image = ImageOps.exif_transpose(opened)
    if image.mode.startswith(("I", "F")):
        image = _eight_bit(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    return image.convert("RGB" if channels == 3 else "L")


def _eight_bit(image: Image) -> Image:
    """Integers of more than 8 bits and floats, as mode L."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.float32)
    least, largest = float(values.min()), float(values.max())
    if not np.isfinite([least, largest]).all():
        raise ValueError("it holds values that are not finite")
    for top in (1, 255) if image.mode == "F" else (65535,):
        if least >= 0 and largest <= top:
            low, high = 0.0, float(top)
            break
    else:
        low, high = least, max(largest, least + 1)
    return Image.fromarray(np.rint((values - low) * (255 / (high - low))).astype(np.uint8))


def _reason(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError):
        return f"it would decode to more than {MAX_PIXELS:,} pixels"
    if isinstance(error, UnidentifiedImageError):
        return f"it is damaged, or none of {', '.join(FORMATS)}"
    return " ".join(str(error).split()) or type(error).__name__
