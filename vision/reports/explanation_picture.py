"""Attention maps drawn over their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from core.files.atomic import atomic_write
from core.files.figures import INK, PAPER, SOFT
from vision.data.spectrograms import SoundConfig, band_corners
from vision.reports.pictures import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".pdf": "pdf"}
DPI = 150
CELL, BESIDE, BELOW, EDGE, HEAD, FOOT = 1.5, 0.1, 0.45, 0.15, 0.35, 0.65  # inches
NOTES = (250, 500, 1000, 2000, 4000, 8000)  # Hz
COLORS = "inferno"
FINER = 16  # cells of a smooth map along a patch
LEGEND = "attention, from a map's least to its largest share; 1 = an even share"


class Room(NamedTuple):
    """The shape of each axes, height / width, and what is left free beside and below, in inches."""

    aspect: float
    left: float = EDGE
    below: float = BELOW


SOUND = Room(0.75, 0.5, 0.6)
"""For a spectrogram with its scales."""


class Explanation(NamedTuple):
    """A model's answer to an image, and the attention behind it.

    image: float (C, H, W) in 0..1, as the model gets it. maps: (rows, columns) of patches by title, 1 = an even share.
    sound: how it became an image, if it is a sound.
    """

    image: Tensor
    answer: str
    probability: float
    maps: dict[str, Tensor]
    sound: SoundConfig | None = None


def draw(explained: Sequence[tuple[Path, Explanation]]) -> Figure:
    """A row for each image: the image with the answer above it, then its maps with their range below."""
    first = explained[0][1]
    height, width = first.image.shape[1:]
    figure, grid = axes_grid(
        len(explained), 1 + len(first.maps), Room(height / width) if first.sound is None else SOUND
    )
    for (file, explanation), row in zip(explained, grid, strict=True):
        show(row[0], explanation.image)
        answer = f"{shorten(explanation.answer, 14)}, {100 * explanation.probability:.0f} %"
        label(row[0], answer, shorten(file.name, 24))
        for axes, (title, values) in zip(row[1:], explanation.maps.items(), strict=True):
            show(axes, 0.1 + 0.75 * explanation.image.mean(0, keepdim=True))  # grey, with less contrast
            overlay(axes, values)
            label(axes, title if row is grid[0] else "", f"{values.min():.2f} – {values.max():.2f}")
        if explanation.sound is not None:
            show_scales(row, explanation.sound, explanation.image)
    return figure


def axes_grid(rows: int, columns: int, room: Room) -> tuple[Figure, Sequence[Sequence[Axes]]]:
    """An empty figure of rows x columns axes with the colour scale at its foot."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    width = columns * CELL + (columns - 1) * BESIDE + room.left + EDGE
    height = rows * CELL * room.aspect + (rows - 1) * room.below + HEAD + FOOT
    figure = Figure((width, height), facecolor=PAPER)
    place = {"left": room.left / width, "right": 1 - EDGE / width, "top": 1 - HEAD / height, "bottom": FOOT / height}
    space = {"wspace": BESIDE / CELL, "hspace": room.below / (CELL * room.aspect)}
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=place | space)
    scale = figure.add_axes((room.left / width, 0.2 / height, CELL / 2 / width, 0.09 / height))
    bar = figure.colorbar(ScalarMappable(cmap=COLORS), cax=scale, orientation="horizontal", ticks=[])
    bar.outline.set_visible(False)
    scale.annotate(LEGEND, (1, 0.5), (6, 0), "axes fraction", "offset points", va="center", color=SOFT, fontsize=7.5)
    return figure, grid.tolist()


def show(axes: Axes, image: Tensor) -> None:
    """Draws an image (C, H, W) in 0..1 with its pixels as squares."""
    axes.imshow(image.expand(3, -1, -1).permute(1, 2, 0).numpy(), interpolation="nearest")  # (S, S, 3)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def overlay(axes: Axes, values: Tensor) -> None:
    """Draws a map (rows, columns) over the image in the axes, smoothly, coloured from its least to its largest."""
    [image] = axes.images
    fine = F.interpolate(values[None, None], scale_factor=FINER, mode="bicubic")[0, 0]
    fine = fine.clamp(values.min(), values.max())
    axes.imshow(fine.numpy(), cmap=COLORS, alpha=0.65, extent=image.get_extent())


def show_scales(row: Sequence[Axes], sound: SoundConfig, image: Tensor) -> None:
    """Seconds along the first of a row of axes and kilohertz up it; the same for all, stretched to fill them.

    image: (C, bands, windows), the highest band first
    """
    bands, windows = image.shape[-2:]
    centres = band_corners(sound, bands)[1:-1]
    notes = [note for note in NOTES if centres[0] <= note <= centres[-1]]
    seconds = windows * sound.hop / 1000
    step = next((step for step in (0.1, 0.2, 0.5, 1.0, 2.0) if seconds / step <= 5), 5.0)
    times = np.arange(0, seconds, step)
    for axes in row:
        axes.set_aspect("auto")
    heights = bands - 1 - np.interp(notes, centres, np.arange(bands))
    row[0].set_yticks(heights, [f"{note / 1000:g} kHz" for note in notes])
    row[0].set_xticks(times * 1000 / sound.hop, [f"{time:g} s" for time in times])
    row[0].tick_params(length=2, labelsize=5.5, labelcolor=SOFT, color=SOFT, pad=1.5)


def label(axes: Axes, above: str, below: str) -> None:
    """Writes text above and below the axes, as it is: a dollar sign opens no formula."""
    axes.set_title(above, color=INK, fontsize=9, pad=4, parse_math=False)
    axes.set_xlabel(below, color=SOFT, fontsize=7, labelpad=3, parse_math=False)


def write(explained: Sequence[tuple[Path, Explanation]], out: Path) -> None:
    """Draws into a file, whole or not at all, in place of any before it."""
    with atomic_write(out) as aside:
        draw(explained).savefig(aside, format=FORMATS[out.suffix.lower()], dpi=DPI, facecolor=PAPER)
