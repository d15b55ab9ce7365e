"""Targets against returns, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from core.files.figures import ACCENT, ALARM, INK, PALE, RULE, SOFT, blank_figure
from decision.acting.episodes import TargetEpisodes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 30  # of the data's returns


def targets_and_returns(results: Sequence[TargetEpisodes], data: Sequence[float] = (), title: str = "") -> Figure:
    """The return of every episode above its target, their mean, and the returns of the data beside them.

    data: percentiles 0, 1, ... 100 of the returns in the data, or nothing.
    """
    figure = blank_figure(6.4, 4.6)
    if len(data):
        axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=[5, 1])
        _draw_data(beside, np.asarray(data))
        axes.axhline(max(data), color=ALARM, lw=0.8, alpha=0.4, zorder=1)
    else:
        axes = figure.subplots()
    if results[0].target is None:
        _draw_returns(axes, results[0])
    else:
        _draw_targets(axes, results)
    axes.set_ylabel("return reached", color=INK)
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    for each in figure.axes:
        each.set_facecolor("#ffffff")
        each.tick_params(length=0, colors=SOFT, labelsize=8.5)
        each.spines[:].set_color(RULE)
    return figure


def _draw_targets(axes: Axes, results: Sequence[TargetEpisodes]) -> None:
    """A column of dots for each target, its mean and standard deviation, and the line where both are equal."""
    targets = np.array([result.target for result in results])
    width = 0.02 * (np.ptp(targets) or abs(targets[0]) or 1)
    for target, result in zip(targets, results, strict=True):
        returns = result.episodes.returns
        across = target + width * np.linspace(-1, 1, len(returns)) if len(returns) > 1 else [target]
        axes.plot(across, returns, ".", color=PALE, ms=5, zorder=2)
    means, deviations = (np.array([f(each.episodes.returns) for each in results]) for f in (np.mean, np.std))
    axes.errorbar(targets, means, deviations, fmt="o", color=ACCENT, ms=6, capsize=3, zorder=3, label="mean ± std")
    ends = [targets.min() - 3 * width, targets.max() + 3 * width]
    axes.plot(ends, ends, color=SOFT, lw=1, ls=":", zorder=1, label="as asked")
    axes.set_xlabel("return asked for", color=INK)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="best")


def _draw_returns(axes: Axes, result: TargetEpisodes) -> None:
    """The returns of a model without targets, in ascending order."""
    from matplotlib.ticker import MaxNLocator

    returns = np.sort(result.episodes.returns)
    axes.plot(np.arange(1, len(returns) + 1), returns, "o", color=ACCENT, ms=4)
    axes.axhline(returns.mean(), color=SOFT, lw=1, ls=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("episode, the worst first", color=INK)


def _draw_data(axes: Axes, percentiles: np.ndarray) -> None:
    """A horizontal histogram of the returns in the data."""
    low, high = percentiles[0], percentiles[-1]
    edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    axes.hist(percentiles[1:], edges.tolist(), orientation="horizontal", color=RULE)  # each 1 % of the episodes
    axes.axhline(high, color=ALARM, lw=1)
    where = axes.get_yaxis_transform()
    axes.text(0.5, high, "best in the data\n", ha="center", va="center", transform=where, fontsize=7, color=ALARM)
    axes.set_xlabel("data", color=INK)
    axes.set_xticks([])
