"""Tokens that stand for what is left out of a text: <extra_id_0>, <extra_id_1>, ... (Raffel 2020, 3.1.4)."""

from itertools import count, takewhile

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
