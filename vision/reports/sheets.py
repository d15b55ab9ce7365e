"""Images side by side in one picture, and a film of them: plain pixels, enlarged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from core.files.atomic import atomic_write
from core.files.figures import INK, PAPER

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 80
"""Pixels that an image is enlarged to at least, by a whole factor."""
GAP = 2
"""Pixels between enlarged images."""
LINE = 14
"""Pixels of a line of a caption."""


def sheet(pixels: Tensor, columns: int, captions: Sequence[str] = ()) -> Image:
    """Images uint8 (N, C, H, W) in rows of `columns`, each perhaps with a caption below it."""
    from PIL import Image, ImageDraw

    factor = max(1, math.ceil(SIDE / pixels.shape[-1]))
    images = [_picture(image, factor) for image in pixels]
    width, height = images[0].width, images[0].height
    lines = [_wrapped(caption, width) for caption in captions] or [[]] * len(images)
    row = height + LINE * max(map(len, lines)) + GAP
    whole = Image.new("RGB", (columns * (width + GAP) + GAP, math.ceil(len(images) / columns) * row + GAP), PAPER)
    pen = ImageDraw.Draw(whole)
    for place, (image, text) in enumerate(zip(images, lines, strict=True)):
        left, top = GAP + place % columns * (width + GAP), GAP + place // columns * row
        whole.paste(image, (left, top))
        for number, line in enumerate(text):
            pen.text((left, top + height + LINE * number), line, fill=INK)
    return whole


def write_sheet(pixels: Tensor, path: Path, columns: int, captions: Sequence[str] = ()) -> None:
    """Writes a sheet as a PNG file, whole or not at all, in place of any before it."""
    with atomic_write(path) as aside:
        sheet(pixels, columns, captions).save(aside, format="png")


def write_film(frames: Sequence[Tensor], path: Path, columns: int, captions: Sequence[str] = ()) -> None:
    """Writes sheets, uint8 (N, C, H, W) each, as a GIF that begins anew after a second: about 3 seconds long."""
    pictures = [sheet(frame, columns, captions) for frame in frames]
    duration = [max(20, 3000 // len(frames))] * (len(frames) - 1) + [1500]
    with atomic_write(path) as aside:
        pictures[0].save(
            aside, format="gif", save_all=True, append_images=pictures[1:], duration=duration, loop=0, optimize=True
        )


def write_images(pixels: Tensor, names: Sequence[str], folder: Path) -> None:
    """Writes images uint8 (N, C, H, W) as FOLDER/NAME/NUMBER.png, numbered from 0 on, all or none.

    Raises ValueError where the folder is there already.
    """
    if folder.exists():
        raise ValueError(f"{folder} is there already; name a new folder")
    with atomic_write(folder) as aside:
        for number, (image, name) in enumerate(zip(pixels, names, strict=True)):
            place = aside / name.replace("/", "-")
            place.mkdir(parents=True, exist_ok=True)
            _picture(image, 1).convert("L" if len(image) == 1 else "RGB").save(place / f"{number:06d}.png")


def _picture(image: Tensor, factor: int) -> Image:
    """An image uint8 (C, H, W), each pixel a square of `factor` pixels."""
    from PIL import Image

    large = image.repeat_interleave(factor, 1).repeat_interleave(factor, 2)  # (C, H f, W f)
    array: Any = large.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()  # (H f, W f, 3)
    return Image.fromarray(array)


def _wrapped(text: str, width: int) -> list[str]:
    """A text in lines of about so many pixels."""
    from textwrap import wrap

    return wrap(text, max(8, width // 6), max_lines=3, placeholder="...")
