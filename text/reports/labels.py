"""What a classifier of texts or words answers, as text to read: its confusions and its most confident errors."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from core.training.answers import Answers, Tally, by_class, confusion_matrix

SHOWN = 20  # errors, and confusions of pairs of labels
MATRIX = 12  # labels up to which the whole matrix is shown
WIDTH = 12  # characters of a label


class Confident(NamedTuple):
    """An error: the number of the example, its label, the answer, and the probability of the answer."""

    place: int
    truth: int
    answer: int
    probability: float


def most_confident(answers: Answers, count: int = SHOWN) -> list[Confident]:
    """The errors that the model was most confident of."""
    [wrong] = (answers.answer != answers.truth).nonzero(as_tuple=True)
    order = wrong[answers.confidence[wrong].argsort(descending=True, stable=True)[:count]]
    columns = (answers.truth[order], answers.answer[order], answers.confidence[order])
    return [Confident(*row) for row in zip(order.tolist(), *(column.tolist() for column in columns), strict=True)]


def report(answers: Answers, labels: Sequence[str], example: Callable[[int], str]) -> str:
    """Labels, confusions and errors. example: the text of an example by its number."""
    parts = [label_table(answers, labels), confusion_table(answers, labels)]
    lines = [
        f"{error.probability:.4f}  {labels[error.answer]}, not {labels[error.truth]}: {example(error.place)}"
        for error in most_confident(answers)
    ]
    parts += ["\n".join(["most confident errors", *lines])] if lines else []
    return "\n\n".join(parts) + "\n"


def label_table(answers: Answers, labels: Sequence[str]) -> str:
    """Precision, recall, F1 and count of each label."""
    tally = Tally.of(answers, len(labels))
    width = max(5, *map(len, labels))
    lines = [f"{'label':<{width}}{'precision':>11}{'recall':>10}{'F1':>10}{'count':>10}"]
    for label, row in zip(labels, by_class(tally), strict=True):
        shares = "".join(f"{100 * share:>9.2f}%" for share in (row.precision, row.recall, row.f1))
        lines.append(f"{label:<{width}} {shares}{row.count:>10,}")
    return "\n".join(lines)


def confusion_table(answers: Answers, labels: Sequence[str]) -> str:
    """How often a label (line) got an answer (column); of many labels, the most frequent confusions."""
    matrix = confusion_matrix(answers, len(labels))
    if len(labels) > MATRIX:
        return "\n".join(["most frequent confusions", *_confusions(matrix, labels)])
    names = [label[:WIDTH] for label in labels]
    width = max(8, *map(len, names)) + 1
    lines = ["label \\ answer".ljust(WIDTH + 2) + "".join(f"{name:>{width}}" for name in names)]
    for name, row in zip(names, matrix.tolist(), strict=True):
        lines.append(f"{name:<{WIDTH + 2}}" + "".join(f"{count:>{width},}" for count in row))
    return "\n".join(lines)


def _confusions(matrix: torch.Tensor, labels: Sequence[str]) -> list[str]:
    wrong = matrix.clone().fill_diagonal_(0)
    counts, cells = wrong.flatten().topk(min(SHOWN, wrong.numel()))
    pairs = (divmod(cell, len(labels)) for cell in cells.tolist())
    return [
        f"{count:>8,}  {labels[truth]} answered as {labels[answer]}"
        for count, (truth, answer) in zip(counts.tolist(), pairs, strict=True)
        if count
    ]
