"""The two plain tokenizers: one token per character, and one per byte."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from text.tokens.base import Ids, Tokenizer

CHUNK = 1 << 15  # characters looked up at once


class UnknownCharacterError(ValueError):
    """A text has a character that is not in the vocabulary."""

    def __init__(self, character: str, position: int, vocab_size: int) -> None:
        self.character, self.position, self.vocab_size = character, position, vocab_size
        super().__init__(
            f"the character {character!r} (U+{ord(character):04X}) at position {position} is not among the "
            f"{vocab_size} of the vocabulary: remove it, or train with a byte or bpe tokenizer, which accept any text"
        )


class CharTokenizer(Tokenizer):
    """One token per character, for a given set of characters, sorted by code point."""

    kind = "char"
    unit = "character"

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = "".join(sorted(set(characters)))
        if not self.characters:
            raise ValueError("characters must hold at least one character, got none")
        if any("\ud800" <= character <= "\udfff" for character in self.characters):
            raise ValueError("characters must be Unicode characters, got a lone surrogate")

    @classmethod
    def train(cls, texts: Iterable[str]) -> CharTokenizer:
        """The tokenizer of every character that occurs in the texts."""
        occurs = np.zeros(0x110000, bool)
        for text in texts:
            occurs[code_points(text)] = True
        return cls(map(chr, np.flatnonzero(occurs).tolist()))

    @cached_property
    def pieces(self) -> list[bytes]:
        return [character.encode() for character in self.characters]

    @cached_property
    def _table(self) -> NDArray[np.int32]:
        """The id of every code point, -1 where there is none."""
        table = np.full(0x110000, -1, np.int32)
        table[code_points(self.characters)] = np.arange(len(self.characters))
        return table

    def encode(self, text: str) -> Ids:
        """Token ids, one per character: int64 (T,). Raises UnknownCharacterError, a ValueError."""
        ids = np.empty(len(text), np.int64)
        for start in range(0, len(text), CHUNK):
            chunk = self._table[code_points(text[start : start + CHUNK])]
            ids[start : start + CHUNK] = chunk
            if chunk.min() < 0:
                position = start + int(np.argmin(chunk))  # the first -1
                raise UnknownCharacterError(text[position], position, self.vocab_size)
        return ids

    def to_json(self) -> str:
        return json.dumps({"tokenizer": self.kind, "characters": self.characters})


class ByteTokenizer(Tokenizer):
    """One token per byte of UTF-8: 256 ids, any text."""

    kind = "byte"
    unit = "character"
    pieces = tuple(bytes([value]) for value in range(256))

    def encode(self, text: str) -> Ids:
        """Token ids, one per byte: int64 (T,). Raises ValueError for a lone surrogate."""
        return np.frombuffer(text.encode(), np.uint8).astype(np.int64)

    def to_json(self) -> str:
        return json.dumps({"tokenizer": self.kind})


def code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
