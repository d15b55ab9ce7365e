"""Attention maps drawn over their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor
from torch.nn import functional as F

from core.files.atomic import atomic_write
from core.files.figures import INK, PAPER, SOFT
from vision.reports.pictures import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".pdf": "pdf"}
DPI = 150
CELL, BESIDE, BELOW, EDGE, HEAD, FOOT = 1.5, 0.1, 0.45, 0.15, 0.35, 0.65  # inches
COLORS = "inferno"
FINER = 16  # cells of a smooth map along a patch
LEGEND = "attention, from a map's least to its largest share; 1 = an even share"


class Explanation(NamedTuple):
    """A model's answer to an image, and the attention behind it.

    image: float (C, S, S) in 0..1, as the model gets it. maps: (side, side) by title, 1 = an even share.
    """

    image: Tensor
    answer: str
    probability: float
    maps: dict[str, Tensor]


def draw(explained: Sequence[tuple[Path, Explanation]]) -> Figure:
    """A row for each image: the image with the answer above it, then its maps with their range below."""
    figure, grid = axes_grid(len(explained), 1 + len(explained[0][1].maps))
    for (file, explanation), row in zip(explained, grid, strict=True):
        show(row[0], explanation.image)
        answer = f"{shorten(explanation.answer, 14)}, {100 * explanation.probability:.0f} %"
        label(row[0], answer, shorten(file.name, 24))
        for axes, (title, values) in zip(row[1:], explanation.maps.items(), strict=True):
            show(axes, 0.1 + 0.75 * explanation.image.mean(0, keepdim=True))  # grey, with less contrast
            overlay(axes, values)
            label(axes, title if row is grid[0] else "", f"{values.min():.2f} – {values.max():.2f}")
    return figure


def axes_grid(rows: int, columns: int) -> tuple[Figure, Sequence[Sequence[Axes]]]:
    """An empty figure of rows x columns square axes with the colour scale at its foot."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    width = columns * CELL + (columns - 1) * BESIDE + 2 * EDGE
    height = rows * CELL + (rows - 1) * BELOW + HEAD + FOOT
    figure = Figure((width, height), facecolor=PAPER)
    place = {"left": EDGE / width, "right": 1 - EDGE / width, "top": 1 - HEAD / height, "bottom": FOOT / height}
    space = {"wspace": BESIDE / CELL, "hspace": BELOW / CELL}
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=place | space)
    scale = figure.add_axes((EDGE / width, 0.2 / height, CELL / 2 / width, 0.09 / height))
    bar = figure.colorbar(ScalarMappable(cmap=COLORS), cax=scale, orientation="horizontal", ticks=[])
    bar.outline.set_visible(False)
    scale.annotate(LEGEND, (1, 0.5), (6, 0), "axes fraction", "offset points", va="center", color=SOFT, fontsize=7.5)
    return figure, grid.tolist()


def show(axes: Axes, image: Tensor) -> None:
    """Draws an image (C, S, S) in 0..1 with its pixels as squares."""
    axes.imshow(image.expand(3, -1, -1).permute(1, 2, 0).numpy(), interpolation="nearest")  # (S, S, 3)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def overlay(axes: Axes, values: Tensor) -> None:
    """Draws a map (side, side) over the image in the axes, smoothly, coloured from its least to its largest value."""
    [image] = axes.images
    fine = F.interpolate(values[None, None], scale_factor=FINER, mode="bicubic")[0, 0]
    fine = fine.clamp(values.min(), values.max())
    axes.imshow(fine.numpy(), cmap=COLORS, alpha=0.65, extent=image.get_extent())


def label(axes: Axes, above: str, below: str) -> None:
    """Writes text above and below the axes, as it is: a dollar sign opens no formula."""
    axes.set_title(above, color=INK, fontsize=9, pad=4, parse_math=False)
    axes.set_xlabel(below, color=SOFT, fontsize=7, labelpad=3, parse_math=False)


def write(explained: Sequence[tuple[Path, Explanation]], out: Path) -> None:
    """Draws into a file, whole or not at all, in place of any before it."""
    with atomic_write(out) as aside:
        draw(explained).savefig(aside, format=FORMATS[out.suffix.lower()], dpi=DPI, facecolor=PAPER)
