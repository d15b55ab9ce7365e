"""What has to be remembered: symbols that are copied, or recalled by their keys, many windows after they were read.

A row is a segment of what is to be kept, segments of noise, and a segment that asks for it. Copying keeps symbols and
asks for them in order; recall keeps keys, each before its symbol, and asks by the keys in another order.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from core.vocabulary import IGNORED

Task = Literal["copying", "recall"]
TASKS: tuple[Task, ...] = ("copying", "recall")
KEPT, SEGMENT, SYMBOLS, BATCH = 4, 8, 8, 16
NOISE, ASK, KEY = SYMBOLS, SYMBOLS + 4, SYMBOLS + 5
VOCAB = KEY + SYMBOLS
DISTANCES, TRAINED = (1, 2, 4, 8), (1, 1, 1, 2, 2, 4, 8)


def rows_of(task: Task, distance: int, rows: int, g: torch.Generator, fewest: int = KEPT) -> tuple[Tensor, Tensor]:
    """What is read, and `distance` segments later is said: ids and targets, 2 x int64 (rows, T).

    fewest: a row keeps so many symbols or more; noise stands in place of the others, and nobody asks for them
    """
    ids = torch.randint(NOISE, ASK, (rows, (distance + 1) * SEGMENT), generator=g)
    said, asked = torch.full_like(ids, IGNORED), distance * SEGMENT
    kept = torch.randint(SYMBOLS, (rows, KEPT), generator=g)
    counts = torch.arange(KEPT) < torch.randint(fewest, KEPT + 1, (rows, 1), generator=g)  # (rows, KEPT)
    if task == "recall":
        keys = KEY + torch.rand(rows, SYMBOLS, generator=g).argsort(-1)[:, :KEPT]
        order = torch.where(counts, torch.rand(rows, KEPT, generator=g), 1.0).argsort(-1)  # those that count come first
        pairs = torch.stack((keys, kept), dim=-1)  # (rows, KEPT, 2)
        mixed = pairs.gather(1, order.unsqueeze(-1).expand_as(pairs))
        both = counts.unsqueeze(-1).expand_as(pairs).flatten(1)
        put(ids[:, : 2 * KEPT], pairs.flatten(1), both)
        put(ids[:, asked : asked + 2 * KEPT], mixed.flatten(1), both)
        put(said[:, asked : asked + 2 * KEPT : 2], mixed[..., 1], counts)
    else:
        put(ids[:, :KEPT], kept, counts)
        ids[:, asked] = ASK
        put(ids[:, asked + 1 : asked + KEPT], kept[:, :-1], counts[:, :-1])
        put(said[:, asked : asked + KEPT], kept, counts)
    return ids, said


def put(place: Tensor, values: Tensor, where: Tensor) -> None:
    """Writes values to a part of a tensor, where they count: 3 x (rows, N)."""
    place.copy_(torch.where(where, values, place))


def draw(task: Task, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of one distance. Near ones are the more frequent, and rows keep 1 symbol to all: easy ones lead on."""
    return rows_of(task, TRAINED[int(torch.randint(len(TRAINED), (), generator=g))], BATCH, g, fewest=1)
