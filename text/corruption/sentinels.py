"""Tokens that stand for what is left out of a text: <extra_id_0>, <extra_id_1>, ... (Raffel 2020, 3.1.4)."""

from itertools import count, takewhile
from typing import NamedTuple

from text.corpus.sequences import special_ids
from text.tokens.base import Tokenizer
from text.tokens.bpe import BPETokenizer

SENTINEL = "<extra_id_{}>"


def with_sentinels(tokenizer: Tokenizer, number: int) -> Tokenizer:
    """The tokenizer with sentinels as its last ids, counted downwards, as T5 has them.

    One that has any keeps its own, and characters and bytes remain what they are.
    """
    if not isinstance(tokenizer, BPETokenizer) or named_sentinels(tokenizer):
        return tokenizer
    return tokenizer.extended([SENTINEL.format(place) for place in reversed(range(number))])


def named_sentinels(tokenizer: Tokenizer) -> list[int]:
    """The ids of the sentinels that a tokenizer has, in order."""
    ids = {piece: index for index, piece in enumerate(tokenizer.pieces) if piece.startswith(b"<extra_id_")}
    names = (SENTINEL.format(place).encode() for place in count())
    return [ids[name] for name in takewhile(ids.__contains__, names)]


class Sentinels(NamedTuple):
    """Their ids in order, and how many tokens there are with them and with the special ones."""

    ids: list[int]
    vocab_size: int


def sentinel_ids(tokenizer: Tokenizer, number: int) -> Sentinels:
    """Those of a tokenizer, or else as many as are asked for, behind all other tokens and counted downwards."""
    _, _, _, size = special_ids(tokenizer)
    if own := named_sentinels(tokenizer):
        return Sentinels(own, size)
    return Sentinels([*reversed(range(size, size + number))], size + number)
