"""What classification and tagging share: the loss of labels, answers from all processes, tokens that are left out."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from core.training.answers import Answers, Tally
from core.training.order import Indices, stream
from core.training.run import Run
from core.training.trained import EvaluateOptions
from text.corpus.sequences import NOTHING
from text.corpus.windows import IGNORED

WHOLE = ("truth", "answer", "rank")
"""The fields of answers that are whole numbers."""


class LabelLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one."""

    def __init__(self, model: nn.Module, smoothing: float):
        super().__init__()
        self.model, self.smoothing = model, smoothing

    def forward(self, *batch: Tensor) -> Tensor:
        """Cross-entropy summed over the labels that are not IGNORED, in nats, smoothed in training: () float32.

        batch: what the model reads, then the labels, int64 of the shape of its scores without their last axis
        """
        *inputs, labels = batch
        scores = self.scores(inputs, labels).flatten(0, -2).float()  # (N, K)
        smoothing = self.smoothing if self.training else 0.0
        return F.cross_entropy(
            scores, labels.flatten(), ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
        )

    def scores(self, inputs: list[Tensor], labels: Tensor) -> Tensor:
        """(..., K)."""
        scores: Tensor = self.model(*inputs)
        return scores


def gathered(found: Iterable[tuple[Indices, Answers]], count: int, run: Run | None = None) -> Answers:
    """The answers to all of `count` examples, where each process found those to its share.

    found: the places of some examples among all, int64 (b,), and the answers to them
    """
    table = torch.zeros(len(fields(Answers)), count, dtype=torch.float64)
    for places, answers in found:
        table[:, places] = torch.stack([getattr(answers, f.name).double() for f in fields(Answers)])
    if run is not None:
        table = run.total(table).cpu()
    return Answers(*(row.long() if f.name in WHOLE else row for f, row in zip(fields(Answers), table, strict=True)))


@dataclass(frozen=True)
class TokenDropout:
    """Leaves out tokens of training batches. rate: the share of them; what is left out is drawn from (seed, step)."""

    rate: float
    seed: int

    def keep(self, batch: Indices, rows: Indices, step: int, width: int) -> NDArray[np.bool_]:
        """Which tokens of some rows stay: bool (b, width), the same whichever process and micro-batch takes a row.

        batch: the rows of the whole step. width: the most tokens of any of them at least
        """
        draws = np.random.RandomState(stream(self.seed, "left-out tokens", step)).random_sample((len(batch), width))
        places = {row: place for place, row in enumerate(batch.tolist())}
        return draws[[places.get(row, 0) for row in rows.tolist()]] >= self.rate


def spared(keep: Tensor, words: Tensor) -> Tensor:
    """What is kept, and all tokens of a word of which none would be: bool (B, T) -> (B, T).

    words: int64 (B, T), the number of each token's word, or -1 of those that belong to none, which stay
    """
    left = torch.zeros(len(words), int(words.max()) + 2, dtype=torch.int64)  # tokens of each word: (B, 1 + W)
    left.scatter_add_(1, words + 1, keep.long())
    return keep | (words < 0) | (left.gather(1, words + 1) == 0)


def compacted(keep: Tensor, rows: Tensor, fill: int) -> Tensor:
    """What is kept of each row, moved to its beginning, `fill` behind it: (B, T) -> (B, T'), T' as small as it can be.

    keep: bool (B, T)
    """
    order = keep.logical_not().sort(dim=1, stable=True).indices[:, : max(1, int(keep.sum(1).max()))]
    return rows.gather(1, order).masked_fill(~keep.gather(1, order), fill)


def real(rows: Indices) -> bool:
    """Whether a batch holds rows, rather than standing in for one."""
    return bool((rows != NOTHING).all())


def refuse_others(options: EvaluateOptions, *read: str) -> None:
    """Raises ValueError for an option of `text.evaluate` that is set, but not among those that a task reads."""
    shared = [f.name for f in fields(EvaluateOptions)]
    for f in fields(options):
        value = getattr(options, f.name)
        if f.name not in (*shared, *read, "data", "batch_size", "precision") and value != f.default:
            raise ValueError(f"--{f.name.replace('_', '-')} has no effect on what this model does")


def figures(answers: Answers, labels: int) -> dict[str, float]:
    """accuracy, balanced_accuracy, macro_f1 and ece in 0..1, loss in nats: see `core.training.answers`."""
    found = Tally.of(answers, labels).figures()
    return {name: value for name, value in found.items() if name != "top5"}


def labelled_shape(shape: Any, labels: tuple[str, ...]) -> Any:
    """The shape of a model with the labels of its data. Raises ValueError where it has others."""
    own = shape.labels
    if own not in ((), labels):
        raise ValueError(f"model.labels = {own} are not those of the data: {', '.join(labels)}")
    return replace(shape, labels=labels)
