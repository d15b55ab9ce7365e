"""Targets and returns: as flat figures for programs; as tables, sentences and a picture for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.files.figures import ACCENT, ALARM, INK, PALE, RULE, SOFT, blank_figure
from core.files.json_files import write_json
from core.messages import number
from decision.acting.episodes import Rollouts, TargetEpisodes, labels
from decision.data.summary import Summary, normalised

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STATISTICS = ("mean", "std", "min", "max")
SHORT = {"median": "median", "90 %": "p90", "max": "max"}
"""Names of the data's returns in figures."""
BINS = 30  # of the data's returns in the picture


def parts_of(rollouts: Rollouts) -> list[str]:
    """The part of a figure's name that says which target it belongs to, for each of the results."""
    targets = [result.target for result in rollouts.results if result.target is not None]
    return [f"target_{label}" for label in labels(targets, 12)] or ["no_target"]


def figures(rollouts: Rollouts, names: Mapping[float, str], summary: Summary) -> dict[str, Any]:
    """Everything that was measured, part by part, see `core.training.trained.print_json`; names: of the targets.

    `score` is the normalised return, where there is a reference; `truncated` the fraction of episodes that were cut
    off; `data_below` the percentage of the data's episodes that return less than the mean.
    """
    each = [_named(result, names) | _figures(result, summary) for result in rollouts.results]
    return dict(zip(parts_of(rollouts), each, strict=True)) | {
        "rank_correlation": rollouts.rank_correlation(),
        "steps": rollouts.steps,
        "seconds": round(rollouts.seconds, 3),
        "steps_per_second": round(rollouts.steps / rollouts.seconds, 1),
        "data": data_figures(summary),
    }


def _named(result: TargetEpisodes, names: Mapping[float, str]) -> dict[str, Any]:
    if result.target is None:
        return {}
    return {"target": result.target} | ({"name": name} if (name := names.get(result.target)) else {})


def _figures(result: TargetEpisodes, summary: Summary) -> dict[str, Any]:
    returns, lengths, terminated = result.episodes
    measured: dict[str, Any] = _statistics("return", returns)
    if summary.reference is not None:
        measured |= _statistics("score", normalised(returns, summary.reference))
    measured |= {"length_mean": float(lengths.mean()), "truncated": float(1 - terminated.mean())}
    return measured | {"data_below": share_below(float(returns.mean()), summary.returns)}


def _statistics(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    """Mean, standard deviation over the episodes, minimum and maximum."""
    return {f"{name}_{statistic}": float(getattr(values, statistic)()) for statistic in STATISTICS}


def data_figures(summary: Summary) -> dict[str, Any]:
    """The size of the data, and median, 90th percentile and maximum of its returns and scores."""
    returns = {short: summary.targets()[name] for name, short in SHORT.items()}
    measured: dict[str, Any] = {"episodes": summary.episodes, "steps": summary.steps}
    measured |= {f"return_{name}": value for name, value in returns.items()}
    if summary.reference is not None:
        scores = normalised(np.array(list(returns.values())), summary.reference)
        measured |= {f"score_{name}": float(score) for name, score in zip(returns, scores, strict=True)}
    return measured


def share_below(value: float, percentiles: Sequence[float]) -> int:
    """% of the values with these percentiles 0, 1, ... 100 that are below one: 0 ... 100."""
    return max(0, int(np.searchsorted(percentiles, value)) - 1) if value <= percentiles[-1] else 100


def save_episodes(rollouts: Rollouts, path: Path) -> None:
    """Writes return and length of every episode, for every target in the order of the episodes' seeds."""
    episodes = {
        part: {"returns": result.episodes.returns.tolist(), "lengths": result.episodes.lengths.tolist()}
        for part, result in zip(parts_of(rollouts), rollouts.results, strict=True)
    }
    write_json(path, episodes)


def table(rollouts: Rollouts, names: Mapping[float, str], summary: Summary) -> str:
    """A line for each target: the target, the returns and their range, steps, how many were cut off, the score."""
    heads = ["from", "to", "steps", "cut off", *["score"] * (summary.reference is not None)]
    lines = [f"{'asked for':>10}  {'':<24}{'reached':>20}" + "".join(f"{head:>11}" for head in heads)]
    for result in rollouts.results:
        row = _figures(result, summary)
        columns = [number(row["return_min"]), number(row["return_max"]), number(row["length_mean"])]
        columns += [f"{row['truncated']:.0%}"] + ([number(row["score_mean"])] if "score_mean" in row else [])
        target, name = ("-", "") if result.target is None else (number(result.target), names.get(result.target, ""))
        reached = f"{number(row['return_mean'])} ± {number(row['return_std'])}"
        lines.append(f"{target:>10}  {name:<24}{reached:>20}" + "".join(f"{column:>11}" for column in columns))
    return "\n".join(lines)


def sentences(rollouts: Rollouts, summary: Summary) -> list[str]:
    """What the table does not say: the data, how it compares, the speed."""
    data, best = data_figures(summary), rollouts.best()
    returns = ", ".join(f"{name} {number(data[f'return_{short}'])}" for name, short in SHORT.items())
    scores = [f"{data[f'score_{short}']:.1f}" for short in SHORT.values() if f"score_{short}" in data]
    asked = "" if best.target is None else f"asked for {number(best.target)}, "
    mean = float(best.episodes.returns.mean())
    lines = [
        f"the data: {data['episodes']:,} episodes; {returns}" + f"; scores {', '.join(scores)}" * bool(scores),
        f"{asked}it returns {number(mean)} on average, more than {share_below(mean, summary.returns)} % of them",
    ]
    if (correlation := rollouts.rank_correlation()) is not None:
        lines.append(f"rank correlation of asked and reached: {correlation:.2f}")
    return [*lines, f"{rollouts.steps:,} steps of the environment, {rollouts.steps / rollouts.seconds:,.0f} a second"]


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
