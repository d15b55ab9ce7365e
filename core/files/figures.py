"""Pictures: one palette, one blank figure, one way to save."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.files.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, INK, SOFT, RULE = "#fbfaf7", "#1e1d1a", "#68645c", "#ddd8cd"
PALE, ACCENT, ALARM = "#94c2a3", "#2d7548", "#a3530f"


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, drawn without a display."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), facecolor=PAPER)
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG file, whole or not at all, in place of any before it."""
    with atomic_write(path) as aside:
        figure.savefig(aside, format="png", dpi=150, facecolor=PAPER)
