"""A text tokenised once: training and validation tokens on disk, read through a memory map.

The text streams from its source to the disk, a document at a time, so that neither it nor its tokens have to fit into
memory. What was made is found again by the content of the text, the tokenizer's fingerprint and the fraction held out.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from core.files.atomic import atomic_write, remove, sha256
from core.files.downloads import data_root
from core.files.json_files import read_json, write_json
from text.corpus.sources import BETWEEN_DOCUMENTS, Source, content_hash, find_source, remembered_sha256, split, texts
from text.tokens.base import ByteTokenizer, CharTokenizer, Ids, Tokenizer, UnknownCharacterError
from text.tokens.bpe import BPETokenizer
from text.tokens.load import load_tokenizer, published_gpt2

Tokens = NDArray[np.unsignedinteger[Any]]

FORMAT = 2  # of the folders written here; part of their key, so that older ones are not found
HASHES = "hashes"  # the folder of hashes of large files
ATTEMPTS = 3  # another process may have removed, as damaged, what this one had made
TOGETHER = 1 << 20  # characters from which on texts are encoded together, in parallel where the tokenizer can
TOKENIZERS = ("char", "byte", "bpe", "gpt2")


@dataclass(frozen=True)
class Size:
    """How long a part is. Tokens between documents count as tokens only."""

    tokens: int
    chars: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Corpus:
    """A tokenised text. train, validation: uint16 or uint32 (N,), memory-mapped, read-only.

    sha256: of all its tokens, by which a text is recognised as the same.
    """

    name: str
    tokenizer: Tokenizer
    train: Tokens
    validation: Tokens
    train_size: Size
    val_size: Size
    sha256: str

    def bits(self, loss: float) -> dict[str, float]:
        """`bits_per_char` and `bits_per_byte` of the validation text for a mean loss in nats per token."""
        total = loss * self.val_size.tokens / math.log(2)
        return {
            "bits_per_char": total / self.val_size.chars,
            "bits_per_byte": total / self.val_size.bytes,
        }


def load_corpus(
    data: str | Path,
    tokenizer: Tokenizer | str | Path = "char",
    *,
    vocab_size: int | None = None,
    validation: float = 0.1,
    root: Path | None = None,
) -> Corpus:
    """The tokens of a text, from the cache under `root` (default: `data_root()`) or made now.

    data: see `text.corpus.sources.find_source`.
    tokenizer: `char` (the characters of the text), `byte`, `bpe` (learned from the training part, of `vocab_size`
        tokens, 4096 by default), `gpt2`, a Tokenizer, or the path of a saved one.
    validation: the fraction of the characters, at the end of the text, that is held out: training has the first
        `int((1 - validation) * n)` of n. Each part is encoded by itself.

    Several documents are one text, in order, with the tokenizer's end of text between them, or else a blank line.
    Raises ValueError for bad input: no such text, an empty one, not UTF-8, an unknown tokenizer.
    """
    if not 0 < validation < 1:
        raise ValueError(f"validation must be between 0 and 1, got {validation}")
    if vocab_size is not None and tokenizer != "bpe":
        raise ValueError(f"vocab_size is for the bpe tokenizer, got {vocab_size} with {tokenizer}")
    root = root or data_root()
    cache = root / "cache" / "text"
    source = find_source(data, root)
    origin = Origin(source, content_hash(source, cache / HASHES), validation, cache)
    chosen = choose_tokenizer(tokenizer, origin, vocab_size or 4096, root)
    folder = origin.folder("tokens", chosen.fingerprint, validation)
    for _ in range(ATTEMPTS):
        if corpus := _open(folder, origin, chosen):
            return corpus
        remove(folder)  # it is damaged, if it is there
        with atomic_write(folder) as temporary:
            temporary.mkdir()
            _tokenise(temporary, origin, chosen)
    raise OSError(f"{folder} was written but cannot be read back")


@dataclass(frozen=True)
class Origin:
    """What a corpus is made from, and the cache that it is kept in."""

    source: Source
    content: str  # its hash
    validation: float
    cache: Path

    def folder(self, *settings: object) -> Path:
        """The folder of something made from the content with these settings."""
        key = json.dumps([FORMAT, self.content, *settings])
        return self.cache / hashlib.sha256(key.encode()).hexdigest()[:32]

    def measure(self, separator: str | None = BETWEEN_DOCUMENTS) -> tuple[int, int]:
        """The number of characters in the training part, and in all."""
        total = sum(len(text) for text in texts(self.source, "character", separator) if text)
        cut = int((1 - self.validation) * total)
        if not 0 < cut < total:
            raise ValueError(f"{self.source.name} is too short to be split: it has {total} characters")
        return cut, total


def choose_tokenizer(choice: Tokenizer | str | Path, origin: Origin, bpe_size: int, root: Path) -> Tokenizer:
    """The tokenizer that a choice stands for, learned from the text where it is one to learn."""
    match choice:
        case Tokenizer():
            return choice
        case "char":
            characters = filter(None, texts(origin.source, "character"))
            return _learned(origin.folder("char"), lambda: CharTokenizer.train(characters))
        case "byte":
            return ByteTokenizer()
        case "bpe":
            folder = origin.folder("bpe", bpe_size, origin.validation)
            return _learned(folder, lambda: BPETokenizer.train(_training_texts(origin), bpe_size))
        case "gpt2":
            return published_gpt2(root)
    if not Path(choice).exists():
        raise ValueError(f"tokenizer must be {', '.join(TOKENIZERS)} or the path of one, got {str(choice)!r}")
    return load_tokenizer(choice)


def _learned(folder: Path, train: Callable[[], Tokenizer]) -> Tokenizer:
    try:
        return load_tokenizer(folder)
    except ValueError:  # none yet, or damaged
        tokenizer = train()
        tokenizer.save(folder)
        return tokenizer


def _training_texts(origin: Origin) -> Iterator[str]:
    cut, _ = origin.measure()
    return (text for side, text in split(texts(origin.source, "document"), cut) if side == "train" and text)


def _open(folder: Path, origin: Origin, tokenizer: Tokenizer) -> Corpus | None:
    """The corpus in a folder; None if there is none, or it is damaged."""
    file = folder / "tokens.bin"
    try:
        meta = read_json(folder / "meta.json")
        train, val = Size(**meta["train"]), Size(**meta["validation"])
        tokens = np.asarray(np.memmap(file, meta["dtype"], mode="r"))  # still mapped; a memmap's own indexing is slow
        intact = len(tokens) == train.tokens + val.tokens
        if not intact or remembered_sha256(file, origin.cache / HASHES) != meta["sha256"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sides = tokens[: train.tokens], tokens[train.tokens :]
    return Corpus(origin.source.name, tokenizer, *sides, train, val, meta["sha256"])


def _tokenise(folder: Path, origin: Origin, tokenizer: Tokenizer) -> None:
    """Writes tokens.bin, training before validation, and meta.json into an empty folder."""
    from tqdm import tqdm

    file = folder / "tokens.bin"
    separator = BETWEEN_DOCUMENTS if tokenizer.eos is None else None
    cut, total = origin.measure(separator)
    stream = split(texts(origin.source, tokenizer.unit, separator), cut)
    sizes: dict[str, dict[str, int]] = {}
    with (
        file.open("wb") as out,
        tqdm(total=total, unit="char", unit_scale=True, desc="tokenising", delay=1, disable=None) as bar,
    ):
        for side, part in groupby(stream, itemgetter(0)):
            start = 0 if side == "train" else cut
            sizes[side] = asdict(_write(out, (text for _, text in part), tokenizer, start, bar.update))
    meta = {"source": origin.source.name, "dtype": _dtype(tokenizer), "sha256": sha256(file), **sizes}
    write_json(folder / "meta.json", meta)


def _dtype(tokenizer: Tokenizer) -> str:
    return "<u2" if tokenizer.vocab_size < 1 << 16 else "<u4"


def _write(
    file: BinaryIO, part: Iterable[str | None], tokenizer: Tokenizer, start: int, progress: Callable[[int], object]
) -> Size:
    """Encodes the part of the text from character `start` on; None is the end of a document."""
    tokens = chars = size = 0
    for group in _grouped(part):
        encoded = _encode(tokenizer, [text or "" for text in group], start + chars)
        for text, ids in zip(group, encoded, strict=True):
            ids = np.array([tokenizer.eos]) if text is None else ids
            file.write(ids.astype(_dtype(tokenizer)).tobytes())
            tokens += len(ids)
            chars += len(text or "")
            size += len((text or "").encode())
            progress(len(text or ""))
    return Size(tokens, chars, size)


def _grouped(part: Iterable[str | None]) -> Iterator[list[str | None]]:
    """Texts in groups of TOGETHER characters, or somewhat more."""
    group: list[str | None] = []
    length = 0
    for text in part:
        group.append(text)
        length += len(text or "")
        if length >= TOGETHER:
            yield group
            group, length = [], 0
    yield group


def _encode(tokenizer: Tokenizer, group: list[str], position: int) -> list[Ids]:
    """Encodes texts of which the first is at `position` in the whole."""
    try:
        return tokenizer.encode_batch(group)
    except UnknownCharacterError as error:
        position += "".join(group).index(error.character)
        raise UnknownCharacterError(error.character, position, error.vocab_size) from None
