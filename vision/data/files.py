"""One image file, whatever its format and mode, as 8-bit pixels; damaged and dangerous ones are refused."""

from __future__ import annotations

import errno
import io
import os
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

import torch
from torch import Tensor

from vision.data import spectrograms
from vision.data.spectrograms import SoundConfig
from vision.sides import Sides, rows_and_columns

if TYPE_CHECKING:
    from PIL.Image import Image

Fit = Literal["crop", "pad", "squash"]
"""How an image gets its shape: its central part of that shape, all of it between black bars, or all of it distorted."""


class Media(NamedTuple):
    """A kind of files: what they are called, how their names end, and an example."""

    plural: str
    suffixes: tuple[str, ...]
    example: str


SUFFIXES = tuple(".jpg .jpeg .jpe .jfif .png .webp .avif .bmp .gif .tif .tiff .ppm .pgm .pbm".split())
"""What counts as an image in a folder, in lower or upper case."""
IMAGES = Media("images", SUFFIXES, "*.jpg")
SOUNDS = Media("sounds", spectrograms.SUFFIXES, "*.wav")
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM")  # no EPS, say, which would run Ghostscript
PNG = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
"""All that the pixels of a PNG depend on, and which way up it is."""
DAMAGE = (None, errno.EINVAL)
"""Numbers of errors that damaged bytes cause: none, as Pillow raises them, or a place that no file has."""
MAX_PIXELS = 1 << 27
"""The largest image read: 134 million pixels, a third more than cameras of 100 megapixels take."""
WHITE = (255, 255, 255, 255)
MARGIN = 2  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves this many times the pixels wanted


@dataclass(frozen=True)
class Layout:
    """How images are stored: 1 or 3 channels, a side or rows and columns of pixels, and how they get that shape.

    sound: how sounds become images, where the files are sounds; rows are then bands and columns windows.
    """

    channels: int
    side: Sides
    fit: Fit = "crop"
    sound: SoundConfig | None = None

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns."""
        return rows_and_columns(self.side)

    @property
    def media(self) -> Media:
        """What the files are."""
        return IMAGES if self.sound is None else SOUNDS


class Stored(NamedTuple):
    """An image as it is stored, uint8 (C, rows, columns), and which share of the image's area it shows."""

    pixels: Tensor
    shown: float


def read_stored(path: Path | str, layout: Layout) -> Stored:
    """A file as it is stored. Raises what `read_image` raises, or `read_spectrogram`."""
    if layout.sound is not None:
        return Stored(*spectrograms.read_spectrogram(path, layout.sound, *layout.sides))
    return to_stored(read_image(path, layout.channels, layout.side), layout)


def to_stored(image: Image, layout: Layout) -> Stored:
    """A PIL image of mode RGB or L as it is stored; resized bicubic, with antialiasing, unless it has that size."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    (rows, columns), shown = layout.sides, 1.0
    if layout.fit == "crop":
        wider = (image.width * rows) / (image.height * columns)
        shown = min(wider, 1 / wider)
        image = ImageOps.fit(image, (columns, rows), Resampling.BICUBIC)
    elif layout.fit == "pad":
        image = ImageOps.pad(image, (columns, rows), Resampling.BICUBIC)
    else:
        image = image.resize((columns, rows), Resampling.BICUBIC)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return Stored(pixels.view(rows, columns, -1).permute(2, 0, 1).contiguous(), shown)  # (H, W, C) -> (C, H, W)


def read_image(path: Path | str, channels: int, side: Sides | None = None) -> Image:
    """An image file as a PIL image of mode RGB (3 channels) or L (1 channel: ITU-R 601-2 luma), upright.

    EXIF orientation is applied. Alpha and transparent colours are laid over white. CMYK, palettes and the like
    are converted by Pillow. 16-bit grey becomes 8-bit by v / 257. 32-bit integers count as 16-bit where they
    fit into it; floats as 0..1 or 0..255, whichever is the first that holds them; beyond, both are stretched
    from their least to their largest value. Of several frames the first is taken.

    side: pixels wanted at least, along the shorter side or as rows and columns; large JPEGs are then decoded at a
    fraction of their size.

    Raises ValueError naming the file: empty, not of FORMATS, damaged, cut off, above MAX_PIXELS (before it is
    decoded); OSError naming the file if there is none, or it cannot be opened or read.
    """
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about odd metadata and about what MAX_PIXELS refuses
        try:
            return _decode(file, channels, side)
        except Exception as error:  # decoders raise almost anything on damaged bytes
            if isinstance(error, OSError) and error.errno not in DAMAGE:
                raise OSError(error.errno, error.strerror, str(path)) from error
            if not os.fstat(file.fileno()).st_size:
                raise ValueError(f"{path} is empty") from error
            with suppress(Exception):
                return _decode(_without_notes(file), channels, side)
            raise ValueError(f"{path} cannot be read as an image: {_reason(error)}") from error


def _decode(file: BinaryIO, channels: int, side: Sides | None) -> Image:
    from PIL import Image

    Image.init()
    file.seek(0)
    opened = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])  # an old Pillow has no AVIF
    if opened.width * opened.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    if side is not None:
        rows, columns = rows_and_columns(side)
        opened.draft(None, (MARGIN * columns, MARGIN * rows))
    opened.load()
    image = _upright(opened)
    if image.mode.startswith(("I", "F")):
        image = _eight_bit(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    return image.convert("RGB" if channels == 3 else "L")


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata says nothing about the pixels
        return image


def _without_notes(file: BinaryIO) -> BinaryIO:
    """A PNG without its texts, colour profiles and the like, some of which Pillow refuses; nothing of another file."""
    file.seek(0)
    if file.read(len(PNG)) != PNG:
        return io.BytesIO()
    kept = io.BytesIO(PNG)
    kept.seek(0, io.SEEK_END)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in PNG_CHUNKS:
            kept.write(head + file.read(length + 4))  # its content and its checksum
        else:
            file.seek(length + 4, io.SEEK_CUR)
    return kept


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
