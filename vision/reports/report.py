"""An evaluation reported: tables for a terminal, JSON for programs, pictures for people."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from core.files.figures import save_figure
from core.files.json_files import write_json
from core.training.trained import flat
from vision.reports.metrics import by_class, wilson
from vision.reports.pictures import calibration_picture, confusion_picture, errors_picture, shorten
from vision.tasks.evaluation import Evaluation, Variant

NAME = 20  # characters of a class's name
LISTED = 100  # classes up to which all are listed
HARDEST = 20  # of more classes, those listed
MATRIX = 20  # classes up to which a confusion matrix fits into a terminal


def key_figures(split: str, variants: Sequence[Variant], classes: Sequence[str]) -> dict[str, Any]:
    """`SPLIT/metric` of every variant, and `classes/NAME/metric` of the first."""
    figures: dict[str, Any] = {}
    for _, key, tally in variants:
        low, high = wilson(tally.correct, tally.count)
        own = tally.figures() | {"accuracy_low": low, "accuracy_high": high}
        figures |= {f"{split}{key}/{metric}": value for metric, value in own.items()}
    rows = zip(classes, by_class(variants[0].tally.confusion), strict=True)
    return figures | flat({"classes": {name: asdict(row) for name, row in rows}})


def write_figures(figures: dict[str, Any], evaluation: Evaluation, classes: Sequence[str], folder: Path) -> None:
    """Writes confusion.png, errors.png, calibration.png and, with the confusion matrix, figures.json."""
    confusion = evaluation.plain.confusion
    save_figure(confusion_picture(confusion, classes), folder / "confusion.png")
    save_figure(errors_picture(evaluation.errors, classes), folder / "errors.png")
    save_figure(calibration_picture(evaluation.plain), folder / "calibration.png")
    matrix = {"class_names": list(classes), "confusion": confusion.tolist()}
    write_json(folder / "figures.json", flat(figures) | matrix)


def tables(variants: Sequence[Variant], classes: Sequence[str]) -> list[str]:
    """All variants; then, of the first, every class, and its confusion matrix where it fits."""
    confusion = variants[0].tally.confusion
    matrix = [confusion_table(confusion, classes)] if len(classes) <= MATRIX else []
    return [summary_table(variants), class_table(confusion, classes), *matrix]


def summary_table(variants: Sequence[Variant]) -> str:
    """A line for each variant."""
    width = max(len(variant.name) for variant in variants)
    heading = f"{'accuracy':>11}{'95 % interval':>18}{'top-5':>11}{'loss (nats)':>14}{'ECE':>11}"
    lines = [" " * width + heading]
    for name, _, tally in variants:
        figures, (low, high) = tally.figures(), wilson(tally.correct, tally.count)
        interval = f"{100 * low:.2f} - {100 * high:.2f} %"
        lines.append(
            f"{name:<{width}} {_percent(figures['accuracy'])} {interval:>17} {_percent(figures['top5'])} "
            f"{figures['loss']:>13.4f} {_percent(figures['ece'])}"
        )
    return "\n".join(lines)


def class_table(confusion: Tensor, classes: Sequence[str]) -> str:
    """Precision, recall, F1 and count of each class; of more than 100 only of the 20 with the lowest F1."""
    rows = [(shorten(name, NAME), row) for name, row in zip(classes, by_class(confusion), strict=True)]
    title = "class"
    if len(rows) > LISTED:
        rows.sort(key=lambda row: (math.isnan(row[1].f1), row[1].f1))  # classes without an F1 come last
        rows, title = rows[:HARDEST], f"{HARDEST} hardest classes"
    width = max(len(title), *(len(name) for name, _ in rows))
    lines = [f"{title:<{width}}{'precision':>11}{'recall':>11}{'F1':>11}{'images':>10}"]
    for name, row in rows:
        shares = " ".join(map(_percent, (row.precision, row.recall, row.f1)))
        lines.append(f"{name:<{width}} {shares} {row.count:>9,}")
    return "\n".join(lines)


def confusion_table(confusion: Tensor, classes: Sequence[str]) -> str:
    """The counts, truth in rows; a dot for none."""
    names = [shorten(name, NAME) for name in classes]
    column = max(len(str(int(confusion.max()))), min(6, max(map(len, names))))
    corner = "truth \\ answer"
    width = max(len(corner), *map(len, names))
    lines = [f"{corner:<{width}}" + "".join(f" {name[:column]:>{column}}" for name in names)]
    for name, row in zip(names, confusion.tolist(), strict=True):
        lines.append(f"{name:<{width}}" + "".join(f" {count or '.':>{column}}" for count in row))
    return "\n".join(lines)


def _percent(share: float) -> str:
    """In ten characters; a dash for NaN."""
    return f"{'-':>10}" if math.isnan(share) else f"{100 * share:>8.2f} %"
