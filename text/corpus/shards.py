"""A text as shards: files of tokens that are made apart from each other, and read as one text through memory maps.

A folder of them holds `shard-00000.bin`, `shard-00001.bin`, ..., `tokenizer.json`, and `tokens.json`: what each file
holds and hashes to. That is written last: a folder which has it is whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from core.files.json_files import read_json
from text.corpus.sources import Data, remembered_sha256
from text.corpus.stream import end_of_word
from text.tokens.base import Tokenizer
from text.tokens.load import load_tokenizer

RECORD = "tokens.json"
PROGRESS = "tokens.part.jsonl"
"""What is finished, while a folder is being made."""
FORMAT = 1
SLACK = 8  # a shard is up to an eighth longer than asked for, so that it ends where a document does


class Tokens(Protocol):
    """Integers (N,): an array, or several that are read as one."""

    def __len__(self) -> int: ...

    def __getitem__(self, places: slice, /) -> NDArray[Any]: ...

    def __array__(self, *settings: Any, **more: Any) -> NDArray[Any]: ...


class Joined:
    """Arrays of tokens as one (N,); a slice copies only where it spans several of them."""

    def __init__(self, parts: Sequence[NDArray[Any]]):
        self.parts = [part for part in parts if len(part)]
        self._ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.parts else 0

    def __getitem__(self, places: slice, /) -> NDArray[Any]:
        found = self.between(*places.indices(len(self))[:2]).parts
        return found[0] if len(found) == 1 else np.concatenate([np.empty(0, np.uint16), *found])

    def __array__(self, *settings: Any, **more: Any) -> NDArray[Any]:
        return np.array(self[:], *settings, **more)

    def between(self, start: int, stop: int) -> Joined:
        """The tokens from `start` to before `stop`, without a copy."""
        first = int(np.searchsorted(self._ends, start, side="right"))
        kept = list[NDArray[Any]]()
        for part, end in zip(self.parts[first:], self._ends[first:].tolist(), strict=True):
            before = end - len(part)
            if before >= stop:
                break
            kept.append(part[max(0, start - before) : stop - before])
        return Joined(kept)


@dataclass(frozen=True, eq=False)
class Mixture:
    """Several texts of which windows are drawn in fixed shares."""

    parts: tuple[Tokens, ...]
    weights: tuple[float, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))


@dataclass(frozen=True)
class Shard:
    """A file of tokens. text: SHA-256 of what it was made from."""

    name: str
    tokens: int
    chars: int
    bytes: int
    sha256: str
    text: str


def cut(blocks: Iterator[str | None], size: int) -> Iterator[list[str | None]]:
    """The blocks of a text, None between documents, in pieces of about `size` characters, for a shard each.

    A piece ends where a document does, and else where a word does; joined, they are the text.
    """
    piece, length, limit = list[str | None](), 0, size + size // SLACK
    for block in blocks:
        rest = block or ""
        while length + len(rest) > limit and (end := end_of_word(rest, max(0, limit - length))):
            yield [*piece, rest[:end]]
            piece, length, rest = [], 0, rest[end:]
        if rest or block is None:
            piece.append(rest if rest else None)
            length += len(rest)
        if block is None and length >= size:
            yield piece
            piece, length = [], 0
    if piece:
        yield piece


def text_hash(piece: Sequence[str | None]) -> str:
    """SHA-256 of a piece, whatever blocks it is read in."""
    digest = hashlib.sha256()
    for block in piece:
        digest.update(b"\xff" if block is None else block.encode())  # a byte that no text has
    return digest.hexdigest()


def dtype_of(tokenizer: Tokenizer) -> str:
    """The type of tokens on disk."""
    return "<u2" if tokenizer.vocab_size < 1 << 16 else "<u4"


def check_shard(folder: Path, shard: Shard, dtype: str, hashes: Path) -> None:
    """Raises ValueError, in one sentence, for a shard that is missing, cut or changed."""
    path, size = folder / shard.name, shard.tokens * np.dtype(dtype).itemsize
    advice = "; text.tokenize, called as before, makes it again"
    if not path.is_file():
        raise ValueError(f"{path} is missing{advice}")
    if (found := path.stat().st_size) != size:
        raise ValueError(f"{path} holds {found} bytes instead of {size}{advice}")
    if remembered_sha256(path, hashes, least=1 << 20) != shard.sha256:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one it was written with{advice}")


@dataclass(frozen=True, eq=False)
class TokenFolder:
    """A folder of shards that are all as they were written."""

    folder: Path
    name: str
    shards: tuple[Shard, ...]
    dtype: str

    @classmethod
    def open(cls, folder: Path, hashes: Path) -> Self:
        """hashes: the folder that remembers those of files. Raises ValueError for one that is unfinished or damaged."""
        if not (folder / RECORD).is_file():
            raise ValueError(f"{folder} is not finished: text.tokenize, called as before, goes on with it")
        record = read_json(folder / RECORD)
        if record.get("format") != FORMAT:
            raise ValueError(f"{folder / RECORD} is of format {record.get('format')}, this version reads {FORMAT}")
        shards = tuple(Shard(**shard) for shard in record["shards"])
        for shard in shards:
            check_shard(folder, shard, record["dtype"], hashes)
        return cls(folder, record["name"], shards, record["dtype"])

    @property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.folder)

    @cached_property
    def tokens(self) -> Joined:
        """All tokens, memory-mapped, read-only."""
        files = [self.folder / shard.name for shard in self.shards if shard.tokens]
        return Joined([np.asarray(np.memmap(file, self.dtype, mode="r")) for file in files])

    @property
    def fingerprint(self) -> str:
        """A hash of all tokens."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()

    def last(self, fraction: float, end: int | None) -> int:
        """Where the last `fraction` of the tokens begins: behind the first `end` of a document in it, if it has one."""
        start = len(self.tokens) - int(fraction * len(self.tokens))
        if end is None or fraction == 1:
            return start
        ends = np.flatnonzero(self.tokens[start : start + (1 << 20)] == end)
        return start + int(ends[0]) + 1 if len(ends) and start + ends[0] + 1 < len(self.tokens) else start

    def size_from(self, start: int, tokenizer: Tokenizer) -> Mapping[str, int]:
        """Tokens, characters and bytes of the text from a token on."""
        total, before = {"tokens": len(self.tokens) - start, "chars": 0, "bytes": 0}, 0
        for shard in self.shards:
            share = _shares(tokenizer, self.tokens[before : before + shard.tokens], start - before)
            total["chars"] += round(share[0] * shard.chars)
            total["bytes"] += round(share[1] * shard.bytes)
            before += shard.tokens
        return total


def _shares(tokenizer: Tokenizer, tokens: NDArray[Any], start: int) -> tuple[float, float]:
    """Which fractions of the characters, and bytes, of a shard are in its tokens from `start` on."""
    if start <= 0 or start >= len(tokens):
        return (1.0, 1.0) if start <= 0 else (0.0, 0.0)
    pieces = [b"" if token == tokenizer.eos else piece for token, piece in enumerate(tokenizer.pieces)]
    chars = np.array([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in pieces])[tokens]
    sizes = np.array([*map(len, pieces)])[tokens]
    return tuple(float(each[start:].sum() / max(1, each.sum())) for each in (chars, sizes))  # type: ignore[return-value]


def token_folders(data: Data) -> list[Path]:
    """The folders of shards that `data` names; none where it names texts. Raises ValueError where it names both."""
    names = [data] if isinstance(data, (str, Path)) else [*data]
    paths = [Path(name).expanduser() for name in names]
    found = [path for path in paths if any((path / file).is_file() for file in (RECORD, PROGRESS))]
    if found and len(found) < len(paths):
        other = next(path for path in paths if path not in found)
        raise ValueError(f"data names tokens, {found[0]}, and a text, {other}: tokenise that too")
    return found


def record_of(name: str, dtype: str, shards: Sequence[Shard], **more: Any) -> dict[str, Any]:
    """The content of RECORD."""
    return {"format": FORMAT, "name": name, "dtype": dtype, **more, "shards": [asdict(shard) for shard in shards]}
