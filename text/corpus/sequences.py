"""Texts as sequences of tokens of different lengths: held end to end, and padded where a batch needs them."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.checks import check_choice
from core.files.atomic import atomic_write
from core.files.downloads import data_root
from core.messages import notice
from core.training.order import Indices
from text.tokens.base import ByteTokenizer, CharTokenizer, Ids, Tokenizer, UnknownCharacterError
from text.tokens.bpe import BPETokenizer, byte_alphabet, byte_level
from text.tokens.library import LibraryTokenizer
from text.tokens.load import load_tokenizer, published_gpt2
from text.tokens.special import Companions

FORMAT = 3  # of what is kept in the cache; part of its key, so that an older one is not found
SPECIAL = ("<pad>", "<s>", "</s>", "<mask>")  # tokens 0 to 3 of a byte-pair encoding learned here
LEAST = len(SPECIAL) + 256
KEPT = 2000  # texts from which on their tokens are kept in the cache
TOGETHER = 4096  # texts encoded at once
NOTHING = -1
"""In place of a row: a sequence that is one token of padding, for a process without a row of its own."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """Sequences of integers end to end. values: int32 (N,); ends: int64 (n,), where each of them ends."""

    values: NDArray[np.int32]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int] | NDArray[Any]]) -> Self:
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        pieces = [np.asarray(each, np.int32) for each in sequences]
        return cls(np.concatenate([np.empty(0, np.int32), *pieces]), lengths.cumsum())

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return self.values[self.starts[row] : self.ends[row]]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """int64 (n,)."""
        return np.diff(self.ends, prepend=0)

    @property
    def starts(self) -> NDArray[np.int64]:
        """int64 (n,)."""
        return self.ends - self.lengths

    def padded(self, rows: Indices, fill: int, width: int = 1) -> tuple[Tensor, Tensor]:
        """Some of the sequences with `fill` behind them, int64 (b, T), and their lengths, int64 (b,).

        rows: int64 (b,), each from 0 on, or NOTHING. T is the greatest length, at least `width`.
        """
        lengths = np.where(rows == NOTHING, 1, self.lengths[rows])
        width = max(width, int(lengths.max()))
        places = self.starts[rows][:, None] + np.arange(width)  # (b, T)
        inside = (np.arange(width) < lengths[:, None]) & (rows != NOTHING)[:, None]  # (b, T)
        padded = np.full((len(rows), width), fill, np.int64)
        padded[inside] = self.values[places[inside]]
        return torch.from_numpy(padded), torch.from_numpy(lengths)

    def cut(self, longest: int) -> Self:
        """The first `longest` values of each."""
        kept = np.minimum(self.lengths, longest)
        places = np.arange(len(self.values)) - np.repeat(self.starts, self.lengths)
        return type(self)(self.values[places < longest], kept.cumsum())

    def wrapped(self, before: Sequence[int], after: Sequence[int]) -> Self:
        """With the same values before and after each."""
        more = len(before) + len(after)
        ends = self.ends + more * np.arange(1, len(self) + 1)
        starts = ends - self.lengths - more
        values = np.empty(len(self.values) + more * len(self), np.int32)
        for place, value in enumerate(before):
            values[starts + place] = value
        for place, value in enumerate(after):
            values[ends - len(after) + place] = value
        shift = np.repeat(starts + len(before) - self.starts, self.lengths)
        values[np.arange(len(self.values)) + shift] = self.values
        return type(self)(values, ends)


# Tokenizers


class Specials(NamedTuple):
    """The ids of special tokens, and how many ids there are with them."""

    pad: int
    bos: int
    eos: int
    vocab_size: int


def special_ids(tokenizer: Tokenizer) -> Specials:
    """Those of a tokenizer, [CLS] and [SEP] being a start and an end; the ones that it lacks follow its vocabulary."""
    first = tokenizer.frame[0][0] if tokenizer.bos is None and tokenizer.frame[0] else tokenizer.bos
    known = (tokenizer.pad, first, tokenizer.eos)
    free = count(tokenizer.vocab_size)
    pad, bos, eos = (next(free) if token is None else token for token in known)
    return Specials(pad, bos, eos, next(free))


def framed(tokenizer: Tokenizer, before: Literal["bos", "nothing"]) -> Tokenizer:
    """A learned encoding that puts the tokens of a start, perhaps, and an end around a text; any other as it is."""
    if not isinstance(tokenizer, BPETokenizer) or tokenizer.eos is None or any(tokenizer.frame):
        return tokenizer
    first = [tokenizer.bos] if before == "bos" and tokenizer.bos is not None else []
    return tokenizer.framed(first, [tokenizer.eos])


def frame_ids(tokenizer: Tokenizer, vocab_size: int) -> tuple[list[int], list[int]]:
    """The ids that begin and end a text for a model with so many tokens, which may lack either."""
    if any(tokenizer.frame):
        return [*tokenizer.frame[0]], [*tokenizer.frame[1]]
    ids = special_ids(tokenizer)
    begin, end = ([token] if token < vocab_size else [] for token in (ids.bos, ids.eos))
    return begin, end


def choose_tokenizer(
    choice: Tokenizer | str | Path,
    texts: Iterable[str],
    fingerprint: str,
    vocab_size: int = 8000,
    root: Path | None = None,
) -> Tokenizer:
    """The tokenizer that a choice stands for: `bpe` or `char`, learned from texts, `byte`, `gpt2`, or a saved one.

    texts: the training part only, of both sides where there are two; fingerprint: of that part
    vocab_size: of a byte-pair encoding. What was learned is kept under `root` (default: `data_root()`).
    """
    root = root or data_root()
    match choice:
        case Tokenizer():
            return choice
        case "byte":
            return ByteTokenizer()
        case "gpt2":
            return published_gpt2(root)
        case "bpe" | "char":
            folder = _cache(root, "tokenizer", choice, fingerprint, vocab_size if choice == "bpe" else 0)
            return _learned(folder, choice, texts, vocab_size)
    path = Path(choice).expanduser()
    if not path.exists():
        raise ValueError(f"tokenizer must be bpe, char, byte, gpt2 or the path of one, got {str(choice)!r}")
    return load_tokenizer(path)


def _learned(folder: Path, kind: str, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    try:
        return load_tokenizer(folder)
    except ValueError:  # none yet, or damaged
        tokenizer = CharTokenizer.train(texts) if kind == "char" else learn_bpe(texts, vocab_size)
        tokenizer.save(folder)
        return tokenizer


def learn_bpe(texts: Iterable[str], vocab_size: int) -> BPETokenizer:
    """A byte-pair encoding (Sennrich et al. 2016, over bytes) with tokens for padding, the start and the end of a text,
    and for a token that is hidden.

    These have the ids 0 to 3, then come the 256 bytes, then the merges. Raises ValueError for a `vocab_size` below 260.
    """
    from tokenizers import AddedToken, models, trainers

    if vocab_size < LEAST:
        raise ValueError(f"vocab_size must be at least {LEAST} (256 bytes and {', '.join(SPECIAL)}), got {vocab_size}")
    backend = byte_level(models.BPE())
    alphabet = sorted(byte_alphabet())
    special = [AddedToken(name, lstrip=name == "<mask>", special=True) for name in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    named = dict(zip(("pad_token", "bos_token", "eos_token", "mask_token"), SPECIAL, strict=True))
    return BPETokenizer(backend, Companions(tokenizer=named | {"add_bos_token": True}))


# Encoding


def encode_all(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    before: Sequence[int] = (),
    after: Sequence[int] = (),
    longest: int | None = None,
    too_long: Literal["refuse", "truncate"] = "refuse",
    name: str = "text",
    root: Path | None = None,
) -> Ragged:
    """The tokens of texts, each between the ids `before` and `after`.

    longest: the most tokens of a sequence, with those before and after; a longer text is refused, or loses its end.
    name: what an error calls the texts
    root: of the cache in which the tokens of many texts are kept (default: `data_root()`)

    Raises ValueError for a text that is too long, and for one that the vocabulary cannot express.
    """
    check_choice("too_long", too_long, ("refuse", "truncate"))
    found = _kept(tokenizer, texts, name, root or data_root())
    if longest is not None:
        room = longest - len(before) - len(after)
        found = limited(found, room, longest, too_long, name)
    return found.wrapped(before, after)


def limited(
    found: Ragged, room: int, longest: int, too_long: Literal["refuse", "truncate"] = "refuse", name: str = "text"
) -> Ragged:
    """The sequences, cut to `room` tokens of `longest` where that is asked for, with a notice of how many are.

    Raises ValueError for one that is too long otherwise.
    """
    over = np.flatnonzero(found.lengths > room)
    if not len(over):
        return found
    if too_long == "refuse":
        first = int(over[0])
        raise ValueError(
            f"{name} {first + 1} has {found.lengths[first]} tokens, {room} fit into {longest} positions with special "
            f"tokens, and {len(over)} of {len(found)} are too long: allow more positions, or ask for truncation"
        )
    notice(f"{len(over):,} of {len(found):,} sequences ({name}) are cut to {room} tokens")
    return found.cut(room)


def _kept(tokenizer: Tokenizer, texts: Sequence[str], name: str, root: Path) -> Ragged:
    """The tokens of texts, from the cache where there are many."""
    if len(texts) < KEPT:
        return Ragged.of([*_encoded(tokenizer, texts, name)])
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    file = _cache(root, "sequences", tokenizer.fingerprint, len(texts), digest) / "tokens.npz"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return Ragged(arrays["values"], arrays["ends"])
    except (OSError, ValueError, KeyError, BadZipFile):  # none yet, or damaged
        found = Ragged.of([*_encoded(tokenizer, texts, name)])
    with atomic_write(file) as aside, aside.open("wb") as out:
        np.savez(out, values=found.values, ends=found.ends)
    return found


def _encoded(tokenizer: Tokenizer, texts: Sequence[str], name: str) -> Iterator[Ids]:
    for start in range(0, len(texts), TOGETHER):
        group = texts[start : start + TOGETHER]
        if isinstance(tokenizer, LibraryTokenizer):
            yield from (np.array(encoding.ids, np.int64) for encoding in tokenizer.encode_spans(group))
            continue
        for number, text in enumerate(group, start + 1):
            try:
                yield tokenizer.encode(text)
            except UnknownCharacterError as error:
                raise ValueError(f"{name} {number}: {error}") from error


def _cache(root: Path, *key: object) -> Path:
    """The folder of something made from what the key names."""
    return root / "cache" / "text" / hashlib.sha256(json.dumps([FORMAT, *key]).encode()).hexdigest()[:32]
