"""An evaluation reported: tables for a terminal, JSON and CSV for programs, pictures for people."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from core.files.atomic import atomic_write
from core.files.figures import save_figure
from core.files.json_files import write_json
from core.messages import notice
from core.training.answers import Answers, Tally, by_class, confusion_matrix, wilson
from core.training.trained import flat
from vision.reports.errors import Errors
from vision.reports.pictures import calibration_picture, confusion_picture, errors_picture, shorten
from vision.tasks.evaluation import Evaluation, Variant

NAME = 20  # characters of a class's name
LISTED = 100  # classes up to which all are listed
HARDEST = 20  # of more classes, those listed
MATRIX = 20  # classes up to which a confusion matrix fits into a terminal
DRAWN = 1000  # classes up to which one is drawn and written
WORST = 10  # errors listed


def key_figures(split: str, variants: Sequence[Variant], classes: Sequence[str]) -> dict[str, Any]:
    """`SPLIT/metric` of every variant, and `classes/NAME/metric` of the first."""
    figures: dict[str, Any] = {}
    for _, key, tally in variants:
        low, high = wilson(tally.correct, tally.count)
        own = tally.figures() | {"accuracy_low": low, "accuracy_high": high}
        figures |= {f"{split}{key}/{metric}": value for metric, value in own.items()}
    rows = zip(classes, by_class(variants[0].tally), strict=True)
    return figures | flat({"classes": {name: asdict(row) for name, row in rows}})


def write_figures(
    figures: Mapping[str, Any], evaluation: Evaluation, classes: Sequence[str], images: Sequence[str], folder: Path
) -> None:
    """Writes what an evaluation found into a folder; images: the name of each.

    predictions.csv, figures.json with the confusion matrix and the most confident errors, confusion.png, errors.png
    and calibration.png. Of more than DRAWN classes there is no confusion matrix, with a notice.
    """
    write_predictions(evaluation.answers, classes, images, folder / "predictions.csv")
    beside: dict[str, Any] = {"class_names": list(classes), "errors": list_errors(evaluation.errors, classes, images)}
    if len(classes) <= DRAWN:
        confusion = confusion_matrix(evaluation.answers, len(classes))
        save_figure(confusion_picture(confusion, classes), folder / "confusion.png")
        beside["confusion"] = confusion.tolist()
    else:
        notice(f"a confusion matrix holds {DRAWN:,} classes at most, not {len(classes):,}: see predictions.csv")
    save_figure(errors_picture(evaluation.errors, classes, images), folder / "errors.png")
    save_figure(calibration_picture(evaluation.plain), folder / "calibration.png")
    write_json(folder / "figures.json", flat(figures) | beside)


def write_predictions(answers: Answers, classes: Sequence[str], images: Sequence[str], path: Path) -> None:
    """Writes a line for each image: its name, class, answer, and the probabilities of the answer and of its class."""
    with atomic_write(path) as aside, aside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "truth", "answer", "probability", "truth_probability"])
        columns = (answers.truth, answers.answer, answers.confidence, answers.likelihood.exp())
        for name, truth, answer, *shares in zip(images, *(column.tolist() for column in columns), strict=True):
            writer.writerow([name, classes[truth], classes[answer], *(f"{share:.6f}" for share in shares)])


def list_errors(errors: Errors, classes: Sequence[str], images: Sequence[str]) -> list[dict[str, Any]]:
    """The most confident errors, each with the name of its image."""
    columns = (errors.place, errors.truth, errors.answer, errors.confidence)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        {"image": images[place], "truth": classes[truth], "answer": classes[answer]} | flat({"probability": share})
        for place, truth, answer, share in rows
    ]


def tables(
    variants: Sequence[Variant], evaluation: Evaluation, classes: Sequence[str], images: Sequence[str]
) -> list[str]:
    """All variants; then, of the first, every class, its confusion matrix where it fits, and the worst errors."""
    shown = [summary_table(variants), class_table(evaluation.plain, classes)]
    if len(classes) <= MATRIX:
        shown.append(confusion_table(confusion_matrix(evaluation.answers, len(classes)), classes))
    errors = list_errors(evaluation.errors, classes, images)[:WORST]
    return [*shown, errors_table(errors)] if errors else shown


def summary_table(variants: Sequence[Variant]) -> str:
    """A line for each variant."""
    width = max(len(variant.name) for variant in variants)
    heading = f"{'accuracy':>11}{'95 % interval':>18}{'top-5':>11}{'balanced':>11}{'macro-F1':>11}"
    lines = [" " * width + heading + f"{'loss (nats)':>14}{'ECE':>11}"]
    for name, _, tally in variants:
        figures, (low, high) = tally.figures(), wilson(tally.correct, tally.count)
        interval = f"{100 * low:.2f} - {100 * high:.2f} %"
        lines.append(
            f"{name:<{width}} {_percent(figures['accuracy'])} {interval:>17} {_percent(figures['top5'])} "
            f"{_percent(figures['balanced_accuracy'])} {_percent(figures['macro_f1'])} "
            f"{figures['loss']:>13.4f} {_percent(figures['ece'])}"
        )
    return "\n".join(lines)


def class_table(tally: Tally, classes: Sequence[str]) -> str:
    """Precision, recall, F1 and count of each class; of more than 100 only of the 20 with the lowest F1."""
    rows = [(shorten(name, NAME), row) for name, row in zip(classes, by_class(tally), strict=True)]
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


def errors_table(errors: Sequence[Mapping[str, Any]]) -> str:
    """A line for each error."""
    width = max(len(error["image"]) for error in errors)
    lines = ["most confident errors: truth -> answer, probability"]
    for error in errors:
        names = f"{shorten(error['truth'], NAME)} -> {shorten(error['answer'], NAME)}"
        share = math.nan if error["probability"] is None else error["probability"]
        lines.append(f"{error['image']:<{width}}  {names}{_percent(share)}")
    return "\n".join(lines)


def _percent(share: float) -> str:
    """In ten characters; a dash for NaN."""
    return f"{'-':>10}" if math.isnan(share) else f"{100 * share:>8.2f} %"
