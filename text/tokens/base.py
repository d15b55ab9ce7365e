"""Text to token ids and back: what a tokenizer is, and the two plain ones, of characters and of bytes.

A tokenizer is a table of byte strings, one per id, and a way to cover a text with them. Decoding is then the
same for all: the bytes in a row, read as UTF-8. So is decoding one token at a time (`stream`).
"""

from __future__ import annotations

import codecs
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from core.files.atomic import atomic_write

Ids = NDArray[np.int64]
Cuts = Literal["anywhere", "words", "nowhere"]

FILE = "tokenizer.json"
GPT2_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
CHUNK = 1 << 15  # characters looked up at once


class Tokenizer(ABC):
    """What the rest of the panel needs of a tokenizer.

    pieces: the bytes of each token; the vocabulary is as large as the table is long.
    eos, bos: the ids that end and begin a text, where there are any.
    cuts: where a text may be cut without changing its tokens: "anywhere"; between "words", that is before a
        space that follows a non-space, or between lines, after a newline that follows a non-space and comes
        before a letter or digit; or "nowhere".
    lead: bytes that encoding puts before a text and decoding takes away again (SentencePiece's first space).
    """

    kind: ClassVar[str]
    cuts: Cuts = "anywhere"
    eos: int | None = None
    bos: int | None = None
    lead: bytes = b""

    @property
    @abstractmethod
    def pieces(self) -> Sequence[bytes]: ...

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """Token ids of a text: int64 (T,). Raises ValueError if the text cannot be expressed."""

    @abstractmethod
    def to_json(self) -> str:
        """Everything that decides the ids; `load_tokenizer` reads it back."""

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of `to_json()`: two tokenizers with one fingerprint give the same ids."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """`encode` of each text, in parallel where the tokenizer can."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids (T,), bytes that are not UTF-8 as U+FFFD. ValueError for an unknown id."""
        raw = b"".join(self.piece(int(token)) for token in ids)
        return raw.removeprefix(self.lead).decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        """The bytes of one token. Raises ValueError for an id outside the vocabulary."""
        if not 0 <= token < len(self.pieces):
            raise ValueError(f"token id must be in 0..{self.vocab_size - 1}, got {token}")
        return self.pieces[token]

    def save(self, folder: Path | str) -> None:
        """Writes `tokenizer.json` into a folder, whole or not at all."""
        with atomic_write(Path(folder) / FILE) as aside:
            aside.write_text(self.to_json(), encoding="utf-8")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


class Stream:
    """Decoding token by token: call it with an id, it returns the text that is complete by now, perhaps "".

    A character split over several tokens comes with its last one. The texts returned, and that of `finish()`,
    which flushes an incomplete character as U+FFFD, join to `tokenizer.decode` of all the ids. To continue a
    prompt, feed it the prompt's ids first.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lead = tokenizer.lead
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, token: int) -> str:
        piece = self._tokenizer.piece(token)
        if piece and self._lead:
            piece, self._lead = piece.removeprefix(self._lead), b""
        return self._decoder.decode(piece)

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


def stream(tokenizer: Tokenizer) -> Stream:
    """A decoder for tokens that come one at a time."""
    return Stream(tokenizer)


class UnknownCharacterError(ValueError):
    """A text holds a character that the vocabulary lacks."""

    def __init__(self, character: str, position: int, vocab_size: int) -> None:
        self.character, self.position, self.vocab_size = character, position, vocab_size
        super().__init__(
            f"the character {character!r} (U+{ord(character):04X}) at position {position} is not among the "
            f"{vocab_size} of the vocabulary: leave it out, or train with a byte or bpe tokenizer, "
            f"which take any text"
        )


class CharTokenizer(Tokenizer):
    """One token per character, of the characters given, sorted by code point."""

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
        seen = np.zeros(0x110000, bool)
        for text in texts:
            seen[_code_points(text)] = True
        return cls(map(chr, np.flatnonzero(seen).tolist()))

    @cached_property
    def pieces(self) -> list[bytes]:
        return [character.encode() for character in self.characters]

    @cached_property
    def _table(self) -> NDArray[np.int32]:
        """The id of every code point, -1 where there is none."""
        table = np.full(0x110000, -1, np.int32)
        table[_code_points(self.characters)] = np.arange(len(self.characters))
        return table

    def encode(self, text: str) -> Ids:
        """Token ids, one per character: int64 (T,). Raises UnknownCharacterError, a ValueError."""
        ids = np.empty(len(text), np.int64)
        for start in range(0, len(text), CHUNK):
            chunk = self._table[_code_points(text[start : start + CHUNK])]
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
    pieces = tuple(bytes([value]) for value in range(256))

    def encode(self, text: str) -> Ids:
        """Token ids, one per byte: int64 (T,). Raises ValueError for a lone surrogate."""
        return np.frombuffer(text.encode(), np.uint8).astype(np.int64)

    def to_json(self) -> str:
        return json.dumps({"tokenizer": self.kind})


def load_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer of a folder: `tokenizer.json`, or GPT-2's two files under either of their names.

    `path` may also be a `tokenizer.json` itself. Raises ValueError if there is none, or it is of another
    kind.
    """
    from text.tokens.bpe import BPETokenizer

    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if file.is_file():
        return _from_json(file)
    for vocabulary, merges in GPT2_FILES:
        if (path / vocabulary).is_file() and (path / merges).is_file():
            return BPETokenizer.from_gpt2(path / vocabulary, path / merges)
    accepted = ", or ".join([FILE, *(" and ".join(pair) for pair in GPT2_FILES)])
    raise ValueError(f"there is no tokenizer in {path}: accepted are {accepted}")


def _from_json(file: Path) -> Tokenizer:
    from text.tokens.bpe import BPETokenizer

    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        match saved:
            case {"tokenizer": "char", "characters": str(characters)}:
                return CharTokenizer(characters)
            case {"tokenizer": "byte"}:
                return ByteTokenizer()
        return BPETokenizer.from_json(file)
    except Exception as error:  # the library raises nothing more precise
        raise ValueError(f"{file} is not a tokenizer that can be read: {error}") from error


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
