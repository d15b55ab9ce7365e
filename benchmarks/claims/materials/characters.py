"""What the claims on text share: tiny Shakespeare by characters, novels by bytes, windows, and the loss on what is
held out."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.claims.common import Draw
from text.corpus.load import ArrayCorpus, load_corpus
from text.tasks.language_modelling import NextTokenLoss, evaluate

NEEDS = ("shakespeare/input.txt",)


@lru_cache(maxsize=1)
def shakespeare() -> ArrayCorpus:
    """1.1 million characters of 65 kinds; the last tenth is held out."""
    return load_corpus("shakespeare")


@lru_cache(maxsize=1)
def novels() -> ArrayCorpus:
    """British novels by bytes, one of them held out."""
    return load_corpus("british_novels", "byte")


def taken(tokens: NDArray[Any], length: int, batch: int, g: torch.Generator) -> Tensor:
    """Windows from anywhere in a text: int64 (batch, length)."""
    starts = torch.randint(len(tokens) - length + 1, (batch, 1), generator=g).numpy()
    return torch.from_numpy(tokens[starts + np.arange(length)].astype(np.int64))


def windows(length: int, batch: int) -> Draw:
    """Characters to train on and those that follow each: 2 x int64 (batch, length)."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = taken(shakespeare().train, length + 1, batch, g)
        return rows[:, :-1], rows[:, 1:]

    return draw


def held_out_loss(model: nn.Module, length: int, characters: int | None = None) -> float:
    """Nats per character over the held-out tenth, or its first so many, in windows that do not overlap."""
    corpus = shakespeare()
    part = replace(corpus, validation=corpus.validation[:characters])
    return evaluate(NextTokenLoss(model.eval()), part, length, batch_size=64)["val/loss"]
