"""The picture of a claim: panels of lines with a band from the lowest seed to the highest, of bars, or of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from core.files.figures import ACCENT, ALARM, INK, PALE, PAPER, RULE, SOFT, blank_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (ACCENT, ALARM, INK, PALE, "#4a6fa5", "#b58a3c", SOFT, "#8e5572")
PANEL = (4.2, 3.4)  # inches
Scale = Literal["linear", "log"]
Name = TypeVar("Name", bound=str)


@dataclass(frozen=True)
class Lines(Generic[Name]):
    """A panel of lines: each has values over xs, one list for each seed; None where nothing was measured."""

    title: str
    x: str
    y: str
    xs: Sequence[float]
    lines: Mapping[Name, Sequence[Sequence[float | None]]]
    scales: tuple[Scale, Scale] = ("linear", "linear")

    def __post_init__(self) -> None:
        object.__setattr__(self, "xs", [*self.xs])  # a range is kept as its numbers

    def draw(self, axes: Axes) -> None:
        from matplotlib.ticker import NullLocator

        for (name, seeds), colour in zip(self.lines.items(), COLOURS, strict=False):
            at = [n for n, value in enumerate(seeds[0]) if value is not None]
            xs = [self.xs[n] for n in at]
            columns = [[value for seed in seeds if (value := seed[n]) is not None] for n in at]
            middle = [sum(column) / len(column) for column in columns]
            axes.plot(xs, middle, color=colour, marker="o", markersize=3, linewidth=1.4, label=name)
            axes.fill_between(xs, [*map(min, columns)], [*map(max, columns)], color=colour, alpha=0.15)
        axes.set(xlabel=self.x, ylabel=self.y, xscale=self.scales[0], yscale=self.scales[1])
        if self.scales[0] == "log":
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks(self.xs, [f"{x:,g}" for x in self.xs])
        axes.grid(color=RULE, linewidth=0.6)
        if any(self.lines):
            axes.legend(frameon=False, fontsize=7)


@dataclass(frozen=True)
class Bars(Generic[Name]):
    """A panel of bars, each the mean over seeds, which are dots."""

    title: str
    x: str
    bars: Mapping[Name, Sequence[float]]

    def draw(self, axes: Axes) -> None:
        places = range(len(self.bars), 0, -1)  # the first at the top
        axes.barh(places, [sum(seeds) / len(seeds) for seeds in self.bars.values()], color=PALE, height=0.6)
        for place, seeds in zip(places, self.bars.values(), strict=True):
            axes.plot(seeds, [place] * len(seeds), "o", color=ACCENT, markersize=3)
        axes.set_yticks(places, [*self.bars])
        axes.set(xlabel=self.x)
        axes.grid(axis="x", color=RULE, linewidth=0.6)


@dataclass(frozen=True)
class Cells:
    """A panel of numbers in rows and columns, the larger the darker."""

    title: str
    x: str
    y: str
    rows: Sequence[Sequence[float]]
    names: Sequence[str]
    """Of the rows."""
    columns: Sequence[str]

    def draw(self, axes: Axes) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes.imshow(self.rows, cmap=LinearSegmentedColormap.from_list("house", [PAPER, ACCENT]), aspect="auto")
        axes.set_yticks(range(len(self.names)), self.names)
        axes.set_xticks(range(len(self.columns)), self.columns)
        axes.set(xlabel=self.x, ylabel=self.y)


Panel = Lines | Bars | Cells


def save_panels(panels: Sequence[Panel], path: Path) -> None:
    """Draws the panels side by side, three in a row, into a PNG file."""
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = blank_figure(PANEL[0] * across, PANEL[1] * down)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(down, across, number + 1, facecolor=PAPER)
        panel.draw(axes)
        axes.set_title(panel.title, fontsize=9, color=INK, loc="left")
        axes.tick_params(which="both", labelsize=7, colors=SOFT)
    save_figure(figure, path)
