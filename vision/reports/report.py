"""What an evaluation found: tables for a terminal, JSON for programs, pictures for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from vision.reports.metrics import ClassFigures, Tally, by_class, wilson
from vision.reports.pictures import Mistakes, calibration_picture, confusion_picture, mistakes_picture, save

NAME = 20  # characters of a class's name
LISTED = 100  # classes up to which all are listed
HARDEST = 20  # of more classes, those listed
SPREAD = 20  # classes up to which a confusion matrix fits into a terminal


@dataclass(frozen=True, eq=False)
class Judged:
    """What became of a set of images, each seen as it is, and with several views of it joined (None without)."""

    plain: Tally
    joined: Tally | None
    mistakes: Mistakes


class Variant(NamedTuple):
    """One way of answering: its name in tables, what its figures' names end with, and its tally."""

    name: str
    suffix: str
    tally: Tally


def variants(results: Mapping[str, Judged], views: str) -> Iterator[Variant]:
    """By the name of the weights; the first has no suffix, and none of them is a part of another."""
    for kind, judged in results.items():
        suffix = f"_{kind}" if kind != next(iter(results)) else ""
        yield Variant(f"{kind} weights", suffix, judged.plain)
        if judged.joined is not None:
            yield Variant(f"{kind} weights, {views}", f"{suffix}_tta", judged.joined)


def as_json(found: Sequence[Variant], classes: Sequence[str]) -> dict[str, Any]:
    """All figures of every variant; by class, and the confusion matrix, of the first. What is not finite is None."""
    figures: dict[str, Any] = {}
    for _, suffix, tally in found:
        own = tally.figures() | {"accuracy_interval": list(wilson(tally.correct, tally.count))}
        figures |= {f"{name}{suffix}": value for name, value in own.items()}
    confusion = found[0].tally.confusion
    rows = zip(classes, by_class(confusion), strict=True)
    figures["classes"] = {name: {key: _finite(value) for key, value in asdict(row).items()} for name, row in rows}
    return {name: _finite(value) for name, value in figures.items()} | {"confusion": confusion.tolist()}


def tables(found: Sequence[Variant], classes: Sequence[str]) -> list[str]:
    """All variants; then, of the first, every class, and its confusions where they fit."""
    confusion = found[0].tally.confusion
    matrix = [confusion_table(confusion, classes)] if len(classes) <= SPREAD else []
    return [summary_table(found), class_table(confusion, classes), *matrix]


def draw(judged: Judged, classes: Sequence[str], folder: Path) -> None:
    """Writes confusion.png, mistakes.png and calibration.png; OSError where that is not possible."""
    save(confusion_picture(judged.plain.confusion, classes), folder / "confusion.png")
    save(mistakes_picture(judged.mistakes, classes), folder / "mistakes.png")
    save(calibration_picture(judged.plain), folder / "calibration.png")


def summary_table(found: Sequence[Variant]) -> str:
    """A line for each variant."""
    width = max(len(variant.name) for variant in found)
    heading = f"{'accuracy':>11}{'95 % interval':>18}{'top-5':>11}{'loss (nats)':>14}{'ECE':>11}"
    lines = [" " * width + heading]
    for name, _, tally in found:
        figures, (low, high) = tally.figures(), wilson(tally.correct, tally.count)
        interval = f"{100 * low:.2f} - {100 * high:.2f} %"
        lines.append(
            f"{name:<{width}} {_percent(figures['accuracy'])} {interval:>17} {_percent(figures['top5'])} "
            f"{figures['loss']:>13.4f} {_percent(figures['ece'])}"
        )
    return "\n".join(lines)


def class_table(confusion: Tensor, classes: Sequence[str]) -> str:
    """Precision, recall, F1 and count of each class; of more than 100 only of the 20 with the lowest F1."""
    rows = [(_short(name), row) for name, row in zip(classes, by_class(confusion), strict=True)]
    title = "class"
    if len(rows) > LISTED:
        rows, title = sorted(rows, key=lambda row: _difficulty(row[1]))[:HARDEST], f"{HARDEST} hardest classes"
    width = max(len(title), *(len(name) for name, _ in rows))
    lines = [f"{title:<{width}}{'precision':>11}{'recall':>11}{'F1':>11}{'images':>10}"]
    for name, row in rows:
        shares = " ".join(map(_percent, (row.precision, row.recall, row.f1)))
        lines.append(f"{name:<{width}} {shares} {row.count:>9,}")
    return "\n".join(lines)


def confusion_table(confusion: Tensor, classes: Sequence[str]) -> str:
    """The counts, truth in rows; a dot for none."""
    names = [_short(name) for name in classes]
    column = max(len(str(int(confusion.max()))), min(6, max(map(len, names))))
    corner = "truth \\ answer"
    width = max(len(corner), *map(len, names))
    lines = [f"{corner:<{width}}" + "".join(f" {name[:column]:>{column}}" for name in names)]
    for name, row in zip(names, confusion.tolist(), strict=True):
        lines.append(f"{name:<{width}}" + "".join(f" {count or '.':>{column}}" for count in row))
    return "\n".join(lines)


def _percent(share: float) -> str:
    """In ten characters; a dash where there is nothing to know."""
    return f"{'-':>10}" if math.isnan(share) else f"{100 * share:>8.2f} %"


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


def _difficulty(row: ClassFigures) -> float:
    """The F1, with what has none at the end."""
    return math.inf if math.isnan(row.f1) else row.f1


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
