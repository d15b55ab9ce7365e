"""Curves for a page: lines in SVG that stretch with the page, labels in HTML that keep their size.

Nothing is a picture, so a chart is as sharp on a phone as on paper, and takes its colours from the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Point = tuple[float, float]
WIDTH, HEIGHT = 1000, 500  # of the SVG's own coordinates; the page stretches them


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


@dataclass(frozen=True)
class Axis:
    """Maps [low, high] to [0, 1]."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"

    def place(self, value: float) -> float:
        if self.scale == "log":
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, about: int) -> list[float]:
        """Round values inside the range, at about `about` places: 1, 2 and 5 times powers of ten."""
        if self.scale == "log" and self.high / self.low > 30:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            rounds = [mantissa * 10.0**decade for decade in decades for mantissa in (1, 2, 5)]
            return [value for value in rounds if self.low <= value <= self.high]
        step = _nice_step((self.high - self.low) / about)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]

    @classmethod
    def around(cls, values: Sequence[float], scale: Literal["linear", "log"], margin: float) -> Axis:
        """The range of `values` with a margin, a fraction of it, at both ends; never empty."""
        low, high = min(values), max(values)
        if scale == "log":
            factor = (high / low) ** margin if high > 1.01 * low else 1.1
            return cls(low / factor, high * factor, scale)
        grow = margin * (high - low) if high > low else max(abs(high), 1.0) / 2
        return cls(low - grow, high + grow, scale)


def draw(chart: Chart) -> str:
    """HTML of the chart. Values that are not finite are left out, as are curves without any value."""
    curves = [_cleaned(curve, chart.scale) for curve in chart.curves]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return '<p class="note">Nothing was measured.</p>'
    x = Axis.around([px for curve in curves for px, _ in curve.points], "linear", 0)
    levels = [py for curve in curves for _, py in curve.points] + [level for level, _ in chart.references]
    y = Axis.around(levels, chart.scale, 0.06)
    parts = [_legend(curves), f'<p class="axis-y">{escape(chart.y_label)}</p>', '<div class="plot">']
    parts += [_grid(x, y), _references(chart, y), _lines(curves, x, y), "</div>"]
    parts += [f'<p class="axis-x">{escape(chart.x_label)}</p>']
    return f'<figure class="chart">{"".join(parts)}</figure>'


def _cleaned(curve: Curve, scale: str) -> Curve:
    kept = [(px, py) for px, py in curve.points if math.isfinite(px) and math.isfinite(py)]
    kept = [(px, py) for px, py in kept if scale == "linear" or py > 0]
    return Curve(curve.name, tuple(sorted(kept)), curve.style)


def _legend(curves: Sequence[Curve]) -> str:
    """Name and last value of each curve beside a stroke of its line."""
    items = [
        f'<li class="{curve.style}"><i></i>{escape(curve.name)} <b>{curve.points[-1][1]:.4g}</b></li>'
        for curve in curves
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _grid(x: Axis, y: Axis) -> str:
    columns = [_tick("x", "left", x.place(value), _count(value)) for value in x.ticks(5)]
    rows = [_tick("y", "bottom", y.place(value), f"{value:g}") for value in y.ticks(5)]
    return "".join(columns + rows)


def _count(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:,g}"


def _tick(axis: str, side: str, place: float, label: str) -> str:
    last = " last" if axis == "x" and place > 0.93 else ""  # its label ends at the edge of the page
    return f'<span class="tick {axis}{last}" style="{side}:{place:.2%}"><span>{label}</span></span>'


def _references(chart: Chart, y: Axis) -> str:
    return "".join(
        f'<span class="reference" style="bottom:{y.place(level):.2%}"><span>{escape(name)}</span></span>'
        for level, name in chart.references
    )


def _lines(curves: Sequence[Curve], x: Axis, y: Axis) -> str:
    from_behind = sorted(curves, key=lambda curve: curve.style)  # faint, then main
    paths = [_path(curve, x, y) for curve in from_behind]
    names = " and ".join(escape(curve.name) for curve in curves)
    label = f'role="img" aria-label="curves: {names}"'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" {label}>{"".join(paths)}</svg>'


def _path(curve: Curve, x: Axis, y: Axis) -> str:
    places = [(WIDTH * x.place(px), HEIGHT * (1 - y.place(py))) for px, py in curve.points]
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
    drawn = f'<polyline class="{curve.style}" points="{line}"/>'
    if curve.style == "main":  # a stroke of no length with round ends is a dot that does not stretch
        dots = "".join(f"M{px:.1f},{py:.1f}h0" for px, py in places)
        drawn += f'<path class="dots" d="{dots}"/>'
    return drawn


def _nice_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(nice * power for nice in (1, 2, 5, 10) if step <= nice * power * (1 + 1e-9))
