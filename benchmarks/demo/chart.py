"""Curves for a page: SVG drawn by matplotlib, embedded, in the colours of the page, be it light or dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from core.files.figures import ACCENT, INK, PAPER, RULE, SOFT, blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]
SIZE = (5.6, 3.3)  # inches; the page stretches it
COLOURS = {INK: "var(--ink)", SOFT: "var(--soft)", RULE: "var(--rule)", ACCENT: "var(--accent)", PAPER: "var(--paper)"}


@dataclass(frozen=True)
class Curve:
    """One line: `main` in the accent colour with a dot at every point, `faint` thin and grey."""

    name: str
    points: tuple[Point, ...]
    style: Literal["main", "faint"] = "main"


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes.

    x_label, y_label: what is drawn, with its unit. scale: of the y axis; log needs values above zero.
    references: levels to compare with, each (value, name), drawn as dashed lines.
    """

    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    scale: Literal["linear", "log"] = "linear"
    references: tuple[tuple[float, str], ...] = ()


def draw(chart: Chart) -> str:
    """HTML of the chart. Values that are not finite are left out, as are curves without any value."""
    curves = [curve for curve in (finite(curve, chart.scale) for curve in chart.curves) if curve.points]
    if not curves:
        return '<p class="note">Nothing was measured.</p>'
    names = escape(" and ".join(curve.name for curve in curves))
    return f'<figure class="chart" role="img" aria-label="curves: {names}">{svg(chart, curves)}</figure>'


def finite(curve: Curve, scale: str) -> Curve:
    """The curve's finite points in order, on a log scale those above zero."""
    points = [(x, y) for x, y in curve.points if math.isfinite(x) and math.isfinite(y) and (scale == "linear" or y > 0)]
    return replace(curve, points=tuple(sorted(points)))


def svg(chart: Chart, curves: Sequence[Curve]) -> str:
    """The chart as an element of an HTML page: no namespaces, no metadata, and variables of the page as colours."""
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": chart.y_label, "font.size": 9}):
        figure = blank_figure(*SIZE)
        plot(figure.add_subplot(), chart, curves)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, labelcolor=INK, borderaxespad=0)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True)
    text = file.getvalue()
    for needless in (
        r"<metadata>.*?</metadata>",
        r"<style.*?</style>",
        r' xmlns(:xlink)?="[^"]*"',
        r" font-family:[^;]*;",
    ):
        text = re.sub(needless, "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the next chart has the same ones
    for colour, variable in COLOURS.items():
        text = text.replace(colour, variable)
    return text[text.index("<svg") :]


def plot(axes: Axes, chart: Chart, curves: Sequence[Curve]) -> None:
    """Curves with their last values in the legend, and dashed lines of reference."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale(chart.scale)
    for curve in curves:
        label = f"{curve.name}: {curve.points[-1][1]:.4g}"
        look: dict[str, Any] = {"color": ACCENT, "linewidth": 2, "marker": "o", "markersize": 3.5, "zorder": 3}
        if curve.style == "faint":
            look = {"color": SOFT, "linewidth": 0.8}
        axes.plot(*zip(*curve.points, strict=True), label=label, **look)
    for level, name in chart.references:
        axes.axhline(level, color=SOFT, linewidth=0.8, linestyle="dashed")
        axes.text(0.995, level, name, transform=axes.get_yaxis_transform(), ha="right", va="bottom", color=SOFT)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5)) if chart.scale == "log" else MaxNLocator(5))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(chart.x_label, color=SOFT, loc="right")
    axes.set_ylabel(chart.y_label, color=SOFT)
    axes.tick_params(which="both", colors=SOFT, length=2)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
