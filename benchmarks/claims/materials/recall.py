"""What has to be remembered: symbols that are copied, or recalled by their keys, many windows after they were read.

A row is a segment of what is to be kept, segments of noise, and a segment that asks for it. Copying keeps symbols and
asks for them in order; recall keeps facts, each a token for a key and its symbol, and asks by keys in another order.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from core.vocabulary import IGNORED

Task = Literal["copying", "recall"]
TASKS: tuple[Task, ...] = ("copying", "recall")
KEPT, SEGMENT, SYMBOLS, BATCH = 4, 8, 8, 32
NOISE, ASK, KEY = SYMBOLS, SYMBOLS + 4, SYMBOLS + 5
FACT = KEY + SYMBOLS
VOCAB = FACT + SYMBOLS * SYMBOLS
DISTANCES, TRAINED = (1, 2, 4, 8), (1, 1, 1, 2, 2, 4, 8)


def copying(counts: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Symbols, what asks for each of them (the one before it), and the symbols again: 3 x int64 (rows, KEPT)."""
    kept = torch.randint(SYMBOLS, counts.shape, generator=g)
    return kept, F.pad(kept[:, :-1], (1, 0), value=ASK), kept


def recall(counts: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Facts, the keys of those that count in another order, and their symbols: 3 x int64 (rows, KEPT)."""
    kept = torch.randint(SYMBOLS, counts.shape, generator=g)
    keys = torch.rand(len(counts), SYMBOLS, generator=g).argsort(-1)[:, :KEPT]
    order = torch.where(counts, torch.rand(counts.shape, generator=g), 1.0).argsort(-1)  # those that count come first
    return FACT + keys * SYMBOLS + kept, KEY + keys.gather(1, order), kept.gather(1, order)


MAKERS = {"copying": copying, "recall": recall}


def rows_of(task: Task, distance: int, rows: int, g: torch.Generator, fewest: int = KEPT) -> tuple[Tensor, Tensor]:
    """What is read, and `distance` segments later is said: ids and targets, 2 x int64 (rows, T).

    fewest: a row keeps so many symbols or more; noise stands in place of the others, and nobody asks for them
    """
    ids = torch.randint(NOISE, ASK, (rows, (distance + 1) * SEGMENT), generator=g)
    said, asked = torch.full_like(ids, IGNORED), distance * SEGMENT
    counts = torch.arange(KEPT) < torch.randint(fewest, KEPT + 1, (rows, 1), generator=g)  # (rows, KEPT)
    kept, questions, answers = MAKERS[task](counts, g)
    put(ids[:, :KEPT], kept, counts)
    put(ids[:, asked : asked + KEPT], questions, counts)
    put(said[:, asked : asked + KEPT], answers, counts)
    return ids, said


def put(place: Tensor, values: Tensor, where: Tensor) -> None:
    """Writes values to a part of a tensor, where they count: 3 x (rows, N)."""
    place.copy_(torch.where(where, values, place))


def draw(task: Task, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of one distance. Near ones are the more frequent, and rows keep 1 symbol to all: easy ones lead on."""
    return rows_of(task, TRAINED[int(torch.randint(len(TRAINED), (), generator=g))], BATCH, g, fewest=1)
