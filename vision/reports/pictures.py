"""What a classifier gets right and wrong, as pictures: confusions, the most confident errors, calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from core.files.figures import ACCENT, ALARM, INK, PALE, PAPER, RULE, SOFT, blank_figure
from core.training.answers import BINS, Tally
from vision.reports.errors import Errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COUNTED = 20  # classes up to which the cells of a confusion matrix hold their counts
NAMED = 100  # classes up to which each of them has its name beside its row
COLUMNS = 6  # of the grid of errors
COARSE = 64  # pixels of a side up to which an image is shown with its pixels as squares


def confusion_picture(confusion: Tensor, classes: Sequence[str]) -> Figure:
    """A confusion matrix int64 (K, K), truth in rows, coloured by share of the row; counts where there is room."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    side = min(14.0, 3.0 + 0.52 * len(classes))
    figure = blank_figure(side + 0.9, side)
    axes = figure.add_subplot()
    shares = confusion / confusion.sum(1, keepdim=True).clamp(min=1)  # (K, K)
    shades = LinearSegmentedColormap.from_list("shades", ["#ffffff", PALE, ACCENT, "#12341f"])
    image = axes.imshow(shares.numpy(), cmap=shades, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    if len(classes) <= COUNTED:
        _write_counts(axes, confusion, shares)
    _name_classes(axes, classes)
    axes.set_xlabel("answer", color=SOFT)
    axes.set_ylabel("truth", color=SOFT)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=40, ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "5 %", "10 %", "25 %", "50 %", "100 %"], color=SOFT, fontsize=8)
    bar.set_label("share of the class's images", color=SOFT, fontsize=9)
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    count = int(confusion.sum())
    accuracy = _percent(int(confusion.trace()) / max(1, count))
    axes.set_title(f"{accuracy} of {count:,} images correct", color=INK, fontsize=10, loc="left", pad=8)
    return figure


def errors_picture(errors: Errors, classes: Sequence[str], images: Sequence[str]) -> Figure:
    """The images, truth, answer and its probability above each, its name below; one sentence where there is none."""
    columns = min(COLUMNS, max(3, len(errors)))
    rows = max(1, math.ceil(len(errors) / columns))
    figure = blank_figure(1.8 * columns, 2.2 * rows + 0.4)
    figure.suptitle("The most confident errors: truth → answer, probability", color=INK, fontsize=10)
    if not len(errors):
        figure.text(0.5, 0.4, "There are none: every answer is correct.", color=SOFT, ha="center")
        return figure
    bare = {"xticks": [], "yticks": [], "frame_on": False}
    grid = figure.subplots(rows, columns, squeeze=False, subplot_kw=bare).flat
    each = zip(errors.pixels, errors.truth, errors.answer, errors.confidence.tolist(), errors.place, strict=True)
    for axes, (pixels, truth, answer, confidence, place) in zip(grid, each, strict=False):
        _show(axes, pixels)
        axes.set_xlabel(_short(images[place], 26, "beginning"), fontsize=6, color=SOFT, labelpad=2)
        axes.set_title(_short(classes[truth], 18), fontsize=8, color=SOFT, y=1, pad=17)
        says = f"→ {_short(classes[answer], 13)}  {_percent(confidence, 1)}"
        axes.annotate(says, (0.5, 1), (0, 5), "axes fraction", "offset points", ha="center", color=ALARM, fontsize=8)
    return figure


def calibration_picture(tally: Tally) -> Figure:
    """A reliability diagram (Guo 2017, figure 1): the share of correct answers by confidence, and their number."""
    images, confidence, correct = tally.bins.numpy()
    figure = blank_figure(5.4, 6.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    used = images > 0
    middles, counts = (used.nonzero()[0] + 0.5) / BINS, images[used]
    upper.bar(middles, correct[used] / counts, 0.92 / BINS, color=PALE, label="answers that are correct")
    ends = (middles - 0.46 / BINS, middles + 0.46 / BINS)
    upper.hlines(confidence[used] / counts, *ends, color=ALARM, lw=2.5, label="mean confidence")
    upper.plot([0, 1], [0, 1], color=SOFT, lw=1, ls=":")
    upper.set(ylim=(0, 1.01), xlim=(0, 1), ylabel="correct")
    upper.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2, fontsize=9, labelcolor=INK)
    lower.bar(middles, counts / tally.count, 0.92 / BINS, color=SOFT)
    lower.set(xlabel="confidence: probability of the answer", ylabel="images")
    for axes in (upper, lower):
        _percentages(axes)
    error = _percent(tally.figures()["ece"])
    figure.suptitle(f"Expected calibration error {error}, {tally.count:,} images", color=INK, fontsize=10)
    return figure


def shorten(name: str, most: int, cut: Literal["end", "beginning"] = "end") -> str:
    """A name of at most `most` characters, without its end or its beginning; what is no Unicode is a question mark."""
    name = name.encode(errors="replace").decode()
    if len(name) <= most:
        return name
    return f"{name[: most - 1]}…" if cut == "end" else f"…{name[1 - most :]}"


def _write_counts(axes: Axes, confusion: Tensor, shares: Tensor) -> None:
    size = 8 if confusion.max() < 10_000 else 6.5
    for row, column in confusion.nonzero().tolist():
        color = PAPER if shares[row, column] > 0.35 else INK
        text = f"{int(confusion[row, column]):,}"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)


def _name_classes(axes: Axes, classes: Sequence[str]) -> None:
    """Names along both sides, or every so many of them where there is no room."""
    every = math.ceil(len(classes) / NAMED)
    places = range(0, len(classes), every)
    names = [_short(classes[place], 16) for place in places]
    size = max(5.5, min(9.0, 180 / len(places)))
    upright = max(map(len, names)) <= 2
    axes.set_xticks(places, names, rotation=0 if upright else 90, fontsize=size, color=INK)
    axes.set_yticks(places, names, fontsize=size, color=INK)
    _plain(axes)


def _show(axes: Axes, pixels: Tensor) -> None:
    """An image uint8 (C, H, W), grey where it has one channel."""
    image: Any = pixels.permute(1, 2, 0).numpy()  # (H, W, C)
    coarse = max(pixels.shape[1:]) <= COARSE
    grey: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255} if pixels.shape[0] == 1 else {}
    axes.imshow(image.squeeze(2) if grey else image, interpolation="nearest" if coarse else "antialiased", **grey)


def _percentages(axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.tick_params(colors=SOFT, labelsize=8.5)
    axes.tick_params(axis="x", pad=7)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axis.label.set_color(SOFT)
    _plain(axes)


def _plain(axes: Axes) -> None:
    """No ticks, a faint frame."""
    axes.set_facecolor("#ffffff")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_color(RULE)


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def _short(name: str, most: int, cut: Literal["end", "beginning"] = "end") -> str:
    """`shorten` for pictures: dollars stay dollars instead of opening a formula."""
    return shorten(name, most, cut).replace("$", r"\$")
