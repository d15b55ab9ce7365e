"""What was asked for against what was reached, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.files.atomic import atomic_write
from decision.acting.episodes import Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, SOFT, RULE = "#fbfaf7", "#1e1d1a", "#68645c", "#ddd8cd"
PALE, ACCENT, ALARM = "#94c2a3", "#2d7548", "#a3530f"
BINS = 30  # of the data's returns


def asked_and_reached(outcomes: Sequence[Outcome], data: Sequence[float] = (), title: str = "") -> Figure:
    """Every episode's return above the target that it had, their mean, and beside them the returns of the data.

    data: percentiles 0, 1, ... 100 of the returns in the data, or nothing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((6.4, 4.6), facecolor=PAPER)
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
    FigureCanvasAgg(figure)
    if len(data):
        axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=[5, 1])
        _data(beside, np.asarray(data))
        axes.axhline(max(data), color=ALARM, lw=0.8, alpha=0.4, zorder=1)
    else:
        axes = figure.subplots()
    told = [outcome for outcome in outcomes if outcome.target is not None]
    _targets(axes, told) if told else _untold(axes, outcomes[0])
    axes.set_ylabel("return reached", color=INK)
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    for each in figure.axes:
        _plain(each)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG file, whole or not at all, in place of any before it."""
    with atomic_write(path) as aside:
        figure.savefig(aside, format="png", dpi=150, facecolor=PAPER)


def _targets(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    """A column of dots for each target, its mean with one standard deviation, and the line of doing as asked."""
    asked = np.array([outcome.target for outcome in outcomes])
    wide = 0.02 * (np.ptp(asked) or abs(asked[0]) or 1)
    for target, outcome in zip(asked, outcomes, strict=True):
        returns = outcome.episodes.returns
        across = target + wide * np.linspace(-1, 1, len(returns)) if len(returns) > 1 else [target]
        axes.plot(across, returns, ".", color=PALE, ms=5, zorder=2)
    means, deviations = (np.array([f(o.episodes.returns) for o in outcomes]) for f in (np.mean, np.std))
    axes.errorbar(asked, means, deviations, fmt="o", color=ACCENT, ms=6, capsize=3, zorder=3, label="mean ± std")
    ends = [asked.min() - 3 * wide, asked.max() + 3 * wide]
    axes.plot(ends, ends, color=SOFT, lw=1, ls=":", zorder=1, label="as asked")
    axes.set_xlabel("return asked for", color=INK)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="best")


def _untold(axes: Axes, outcome: Outcome) -> None:
    """The returns of a model that is asked for none, each in its place of the order."""
    from matplotlib.ticker import MaxNLocator

    returns = np.sort(outcome.episodes.returns)
    axes.plot(np.arange(1, len(returns) + 1), returns, "o", color=ACCENT, ms=4)
    axes.axhline(returns.mean(), color=SOFT, lw=1, ls=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("episode, the worst first", color=INK)


def _data(axes: Axes, percentiles: np.ndarray) -> None:
    """How often the data has which return, as bars that lie on their side."""
    low, high = percentiles[0], percentiles[-1]
    edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    axes.hist(percentiles[1:], edges.tolist(), orientation="horizontal", color=RULE)  # each 1 % of the episodes
    axes.axhline(high, color=ALARM, lw=1)
    where = axes.get_yaxis_transform()
    axes.text(0.5, high, "best in the data\n", ha="center", va="center", transform=where, fontsize=7, color=ALARM)
    axes.set_xlabel("data", color=INK)
    axes.set_xticks([])


def _plain(axes: Axes) -> None:
    axes.set_facecolor("#ffffff")
    axes.tick_params(length=0, colors=SOFT, labelsize=8.5)
    for spine in axes.spines.values():
        spine.set_color(RULE)
