"""What a tokenizer is: text to token ids and back; and the two plain ones, a token per character and per byte.

A tokenizer is a table of byte strings, one per id, and a way to cover a text with them. Decoding is then the same for
all of them: join the bytes and read them as UTF-8, at once or one token at a time (`StreamingDecoder`).
"""

from __future__ import annotations

import codecs
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.files.atomic import write_text

Ids = NDArray[np.int64]

FILE = "tokenizer.json"
CHUNK = 1 << 15  # characters looked up at once


class Framed(NamedTuple):
    """One text or two between the special tokens of a tokenizer."""

    ids: Ids  # int64 (T,)
    types: Ids  # int64 (T,): 0 for the first text, and mostly 1 for the second


class Tokenizer(ABC):
    """What the rest of the panel needs of a tokenizer.

    pieces: the bytes of each token; the vocabulary is as large as the table is long.
    eos, bos: the id that ends a text and the one that encoding puts before a prompt, where there are any.
    stops: the ids at which a text that a model writes ends: `eos`, and those that its public files name.
    mask: the id that stands for a token that is not shown; pad: the one that fills up a row; where there are any.
    prefix: bytes that encoding puts before a text and decoding removes again (SentencePiece's first space).
    """

    kind: ClassVar[str]
    eos: int | None = None
    bos: int | None = None
    mask: int | None = None
    pad: int | None = None
    stops: tuple[int, ...] = ()
    prefix: bytes = b""

    @property
    @abstractmethod
    def pieces(self) -> Sequence[bytes]: ...

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """Token ids of a text: int64 (T,). Raises ValueError if the vocabulary cannot express the text."""

    @property
    def frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The special tokens that `encode_framed` puts before a text, and after it."""
        return (), ()

    def encode_framed(self, text: str, pair: str | None = None) -> Framed:
        """The ids of a text, or of two together, with special tokens where the tokenizer's files put them.

        Raises ValueError for two where there is nothing to put between them.
        """
        if pair is not None:
            raise ValueError(f"a {self.kind} tokenizer has no special tokens to put two texts together")
        ids = self.encode(text)
        return Framed(ids, np.zeros_like(ids))

    def encode_marked(self, text: str, pair: str | None = None) -> Framed:
        """The same, but the names of special tokens in a text, [MASK] for example, are these tokens."""
        return self.encode_framed(text, pair)

    def encode_words(self, words: Sequence[str]) -> tuple[Ids, Ids]:
        """The ids of a text given as words, framed, and the number of each token's word: 2 x int64 (T,).

        The number is -1 where a token belongs to none: special tokens, and spaces by themselves, of which there is one
        between two words where the vocabulary has it. Raises ValueError for no words, or an empty one.
        """
        check_words(words)
        parts = [self.encode(word) for word in words]
        space, ids, numbers = self._space(), list[Ids](), list[Ids]()
        for number, part in enumerate(parts):
            ids += [space, part] if number else [part]
            numbers += [np.full(len(space), -1), np.full(len(part), number)] if number else [np.full(len(part), 0)]
        return np.concatenate(ids), np.concatenate(numbers)

    def _space(self) -> Ids:
        """What stands between two words."""
        return self.encode(" ")

    @property
    def special(self) -> dict[str, int]:
        """The ids of its special tokens, by the names that public files give them."""
        named = {"bos": self.bos, "eos": self.eos, "pad": self.pad, "mask": self.mask}
        return {name: token for name, token in named.items() if token is not None}

    @abstractmethod
    def to_json(self) -> str:
        """Everything that determines the ids, as `text.tokens.load.load_tokenizer` reads it."""

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of `to_json()`: tokenizers with equal fingerprints give equal ids."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids (T,), bytes that are not UTF-8 as U+FFFD. Raises ValueError for an unknown id."""
        raw = b"".join(self.piece(int(token)) for token in ids)
        return raw.removeprefix(self.prefix).decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        """The bytes of one token. Raises ValueError for an id outside the vocabulary."""
        if not 0 <= token < len(self.pieces):
            raise ValueError(f"token id must be in 0..{self.vocab_size - 1}, got {token}")
        return self.pieces[token]

    def save(self, folder: Path | str) -> None:
        """Writes `tokenizer.json` into a folder, atomically."""
        write_text(Path(folder) / FILE, self.to_json())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


class StreamingDecoder:
    """Decodes token by token: each call takes an id and returns the text completed by it, which may be empty.

    A character split over several tokens is returned with the last of them. The texts returned, and that of `finish()`,
    which gives an incomplete character as U+FFFD, join to `tokenizer.decode` of all the ids. To continue a prompt,
    feed it the prompt's ids first.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._prefix = tokenizer.prefix
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, token: int) -> str:
        piece = self._tokenizer.piece(token)
        if piece and self._prefix:
            piece, self._prefix = piece.removeprefix(self._prefix), b""
        return self._decoder.decode(piece)

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class UnknownCharacterError(ValueError):
    """A text has a character that is not in the vocabulary."""

    def __init__(self, character: str, position: int, vocab_size: int) -> None:
        self.character, self.position, self.vocab_size = character, position, vocab_size
        super().__init__(
            f"the character {character!r} (U+{ord(character):04X}) at position {position} is not among the "
            f"{vocab_size} of the vocabulary: remove it, or train with a byte or bpe tokenizer, which accept any text"
        )

    def __reduce__(self) -> tuple[type[UnknownCharacterError], tuple[str, int, int]]:
        return type(self), (self.character, self.position, self.vocab_size)  # from another process


class CharTokenizer(Tokenizer):
    """One token per character, for a given set of characters, sorted by code point."""

    kind = "char"

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
        for start in range(0, len(text), CHUNK):  # code points take four bytes a character
            chunk = self._table[code_points(text[start : start + CHUNK])]
            ids[start : start + CHUNK] = chunk
            if chunk.min() < 0:
                position = start + int(np.argmin(chunk))  # the first -1
                raise UnknownCharacterError(text[position], position, self.vocab_size)
        return ids

    def _space(self) -> Ids:
        return self.encode(" ") if " " in self.characters else np.empty(0, np.int64)

    def to_json(self) -> str:
        return json.dumps({"tokenizer": self.kind, "characters": self.characters})


class ByteTokenizer(Tokenizer):
    """One token per byte of UTF-8: 256 ids, any text."""

    kind = "byte"
    pieces = tuple(bytes([value]) for value in range(256))

    def encode(self, text: str) -> Ids:
        """Token ids, one per byte: int64 (T,). Raises ValueError for a lone surrogate."""
        return np.frombuffer(text.encode(), np.uint8).astype(np.int64)

    def to_json(self) -> str:
        return json.dumps({"tokenizer": self.kind})


def check_words(words: Sequence[str]) -> None:
    """Raises ValueError for no words, or naming an empty one."""
    if not words or "" in words:
        place = f"word {list(words).index('') + 1} of {len(words)} is empty" if words else "there are none"
        raise ValueError(f"words must hold at least one character each: {place}")


def code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
