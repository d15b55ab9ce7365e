"""Which tokens of a row are hidden from a masked language model, and what stands in their place (Devlin 2019, 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.checks import check_between, check_choices, check_positive
from core.training.order import Indices, stream
from text.corpus.sequences import special_ids
from text.tokens.base import Tokenizer

Replacement = Literal["bert", "mask"]
WHOLE = float(2**64)  # of the numbers that a stream draws
MASKED, ANOTHER = 0.8, 0.9  # of the draws of "bert": below the one the mask, below the other another token


class Masked(NamedTuple):
    """Rows with hidden tokens: ids, int64 (B, T); places of what is hidden, counted along the rows of ids one after
    another, int64 (N,); and the tokens that were there, int64 (N,).
    """

    ids: Tensor
    places: Tensor
    targets: Tensor


@dataclass(frozen=True, eq=False)
class Masking:
    """How tokens are hidden.

    mask: the id that stands for a hidden token
    ordinary: bool (V,), the tokens that text is made of; others, which begin or end a text or fill it up, stay
    fraction: of the ordinary tokens of a row, at least one
    replacement: "mask" puts the mask in their place; "bert" only in that of 80 %, another token, drawn from the
        ordinary ones, in that of 10 %, and leaves 10 % as they are

    What is hidden of a row is a pure function of (seed, purpose, index of the row).
    """

    mask: int
    ordinary: NDArray[np.bool_]
    fraction: float = 0.15
    replacement: Replacement = "bert"

    def __post_init__(self) -> None:
        check_choices(self)
        check_between(self, 0.0, 1.0, "fraction")
        check_positive(self, "fraction")

    def hide(self, rows: NDArray[np.int64], seed: int, purpose: str, indices: Indices | Sequence[int]) -> Masked:
        """Hides tokens of rows (B, T), whose indices are (B,)."""
        ids, width = rows.copy(), rows.shape[1]
        hidden = [self._hide(row, seed, purpose, int(index)) for row, index in zip(ids, indices, strict=True)]
        places = np.concatenate([number * width + chosen for number, chosen in enumerate(hidden)])
        targets = rows.reshape(-1)[places]  # (B T,) -> (N,)
        return Masked(*map(torch.from_numpy, (ids, places, targets)))

    def _hide(self, row: NDArray[np.int64], seed: int, purpose: str, index: int) -> Indices:
        """Hides tokens of one row, in place; where they are."""
        candidates, width = np.flatnonzero(self.ordinary[row]), len(row)
        order, how, other = stream(seed, purpose, index).random_raw(3 * width).reshape(3, width)  # (3, T)
        count = max(1, round(self.fraction * len(candidates)))
        chosen = np.sort(candidates[np.argsort(order[: len(candidates)], kind="stable")[:count]])
        drawn = how[: len(chosen)] / WHOLE
        masked, another = drawn < MASKED, (drawn >= MASKED) & (drawn < ANOTHER)
        if self.replacement == "mask":
            masked, another = np.ones_like(masked), np.zeros_like(another)
        row[chosen[masked]] = self.mask
        row[chosen[another]] = self._vocabulary[other[: len(chosen)][another] % np.uint64(len(self._vocabulary))]
        return chosen

    @cached_property
    def _vocabulary(self) -> Indices:
        return np.flatnonzero(self.ordinary)


class Ids(NamedTuple):
    """The special tokens of a masked language model, and how many tokens there are with them."""

    pad: int
    bos: int
    eos: int
    mask: int
    vocab_size: int


def masked_ids(tokenizer: Tokenizer) -> Ids:
    """Those of a tokenizer; the ones that it lacks follow its vocabulary."""
    pad, bos, eos, size = special_ids(tokenizer)
    return Ids(pad, bos, eos, *((size, size + 1) if tokenizer.mask is None else (tokenizer.mask, size)))


def build_masking(tokenizer: Tokenizer, fraction: float, replacement: Replacement) -> Masking:
    """How tokens of this tokenizer are hidden; special tokens never are."""
    ids = masked_ids(tokenizer)
    ordinary = np.arange(ids.vocab_size) < tokenizer.vocab_size
    ordinary[[*ids[:4], *tokenizer.stops, *tokenizer.special.values()]] = False
    return Masking(ids.mask, ordinary, fraction, replacement)
