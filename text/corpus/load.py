"""A text tokenised once: training and validation tokens on disk, read through a memory map.

The text streams from its source to the disk, so that neither it nor its tokens have to fit into memory. What was made
is found again by the content of the text, how it is read, the tokenizer's fingerprint and the fraction held out.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from core.files.atomic import atomic_write, remove, sha256
from core.files.downloads import data_root
from core.files.json_files import read_json, write_json
from core.messages import notice
from text.corpus.documents import PLAIN, Reading
from text.corpus.encode import encoded
from text.corpus.published import NOVELS, NOVELS_HELD_OUT
from text.corpus.sequences import FORMAT as LEARNED_FORMAT
from text.corpus.sequences import learn_bpe
from text.corpus.shards import Mixture, Tokens, dtype_of
from text.corpus.sources import Data, Source, content_hash, find_source, remembered_sha256
from text.corpus.stream import Notes, Side, split, texts, whole_words
from text.tokens.base import ByteTokenizer, CharTokenizer, Tokenizer
from text.tokens.bpe import BPETokenizer
from text.tokens.load import load_tokenizer, published_gpt2
from text.tokens.wordpiece import WordPieceTokenizer

Special = Literal["end", "all"]

FORMAT = 2  # of the folders written here; part of their key, so that older ones are not found
HASHES = "hashes"  # the folder of hashes of large files
ATTEMPTS = 3  # another process may have removed, as damaged, what this one had made
BETWEEN_DOCUMENTS = "\n\n"  # where no token ends a text
LEARNED = 1 << 16  # characters that a byte-pair encoding is learned from at once
LONGEST = 5 << 18  # characters of a word there, beyond which it is cut
TOKENIZERS = ("char", "byte", "bpe", "wordpiece", "gpt2")
TRAINED: dict[str | Path, Callable[[Iterable[str], int], Tokenizer]] = {
    "bpe": BPETokenizer.train,
    "wordpiece": WordPieceTokenizer.train,
}


@dataclass(frozen=True)
class Size:
    """How long a part is. Tokens between documents count as tokens only."""

    tokens: int
    chars: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Corpus:
    """A tokenised text. train, validation: uint16 or uint32 (N,), memory-mapped, read-only; of shards, as one.

    sha256: of all its tokens, by which a text is recognised as the same.
    """

    name: str
    tokenizer: Tokenizer
    train: Tokens | Mixture
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


@dataclass(frozen=True, eq=False)
class ArrayCorpus(Corpus):
    """A corpus in one file, whose tokens are arrays."""

    train: NDArray[Any]
    validation: NDArray[Any]


def load_corpus(
    data: Data,
    tokenizer: Tokenizer | str | Path = "char",
    *,
    vocab_size: int | None = None,
    special: Special = "end",
    validation: float | Data = 0.1,
    reading: Reading = PLAIN,
    root: Path | None = None,
) -> ArrayCorpus:
    """The tokens of a text, from the cache under `root` (default: `data_root()`) or made now.

    data: see `text.corpus.sources.find_source`.
    tokenizer: `char` (the characters of the text), `byte`, `bpe` or `wordpiece` (learned from the training part, of
        `vocab_size` tokens, 4096 by default), `gpt2`, a Tokenizer, or the path of a saved one.
    special: whether a byte-pair encoding that is learned has a special token for the end of a text alone, or all those
        of `text.corpus.sequences.learn_bpe`.
    validation: the fraction of the characters, at the end of the text, that is held out: training has the first
        `int((1 - validation) * n)` of n, nothing where it is 1. Or the data that is held out, and no part of `data`.
        Each part is encoded by itself. `british_novels` has a part that is held out in place of a fraction below 1.

    Several documents are one text, in order, with the tokenizer's end of text between them, or else a blank line.
    Raises ValueError for bad input: no such text, an empty one, not UTF-8, an unknown tokenizer.
    """
    if vocab_size is not None and tokenizer not in ("bpe", "wordpiece"):
        raise ValueError(f"vocab_size is for the bpe and wordpiece tokenizers, got {vocab_size} with {tokenizer}")
    root = root or data_root()
    origin = find_origin(data, validation, reading, root)
    chosen = choose_tokenizer(tokenizer, origin, vocab_size or 4096, special, root)
    folder = origin.folder("tokens", chosen.fingerprint, origin.fraction)
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
    """What a corpus is made from, and the cache that it is kept in.

    held_out: what is held out, or else the fraction of the text.
    content: a hash of the texts and of how they are read.
    """

    source: Source
    held_out: Source | None
    fraction: float
    reading: Reading
    content: str
    cache: Path

    def folder(self, *settings: object) -> Path:
        """The folder of something made from the content with these settings."""
        key = json.dumps([FORMAT, self.content, *settings])
        return self.cache / hashlib.sha256(key.encode()).hexdigest()[:32]

    def texts(self, between: str | None, notes: Notes | None = None) -> Iterator[tuple[int, str | None]]:
        """The texts of all sources, each with the number of its source."""
        for number, source in enumerate(filter(None, (self.source, self.held_out))):
            yield from ((number, text) for text in texts(source.documents(), between, self.reading, notes))

    def measure(self, between: str | None, notes: Notes | None = None) -> tuple[int, int]:
        """The number of characters in the training part, and in all."""
        lengths = [0, 0]
        for number, text in self.texts(between, notes):
            lengths[number] += len(text or "")
        total = sum(lengths)
        cut = lengths[0] if self.held_out else int((1 - self.fraction) * total)
        if not (0 < cut < total or (self.fraction == 1 and total)):
            left_out = "".join(f"; {sentence}" for sentence in (notes or Notes()).sentences())
            raise ValueError(f"{self.name} is too short to be split: it has {total} characters{left_out}")
        return cut, total

    def sides(self, between: str | None, cut: int) -> Iterator[tuple[Side, str | None]]:
        """The texts, each with its side."""
        if self.held_out is None:
            return split((text for _, text in self.texts(between)), cut)
        names: tuple[Side, Side] = ("train", "validation")
        return ((names[number], text) for number, text in self.texts(between))

    @property
    def name(self) -> str:
        return self.source.name


def find_origin(data: Data, validation: float | Data, reading: Reading, root: Path) -> Origin:
    """The sources of a text and of what is held out."""
    if isinstance(validation, float) and not 0 < validation <= 1:
        raise ValueError(f"validation must be above 0 and at most 1, got {validation}")
    if data == NOVELS and validation != 1 and isinstance(validation, float):
        validation = NOVELS_HELD_OUT
    cache = root / "cache" / "text"
    source = find_source(data, root, reading)
    content = content_hash(source, cache / HASHES)
    held_out, fraction = None, 0.0
    if isinstance(validation, (float, int)):
        fraction = validation
    else:
        held_out = find_source(validation, root, reading)
        content = f"{content} {content_hash(held_out, cache / HASHES)}"
    if reading.column and not any(each.columns for each in (source, held_out) if each):
        raise ValueError(f"column = {reading.column!r} has no effect: {source.name} is no table")
    if reading != PLAIN:
        content = f"{content} {asdict(reading)}"
    return Origin(source, held_out, fraction, reading, content, cache)


def choose_tokenizer(
    choice: Tokenizer | str | Path, origin: Origin, bpe_size: int, special: Special, root: Path
) -> Tokenizer:
    """The tokenizer that a choice stands for, learned from the text where it is one to learn."""
    match choice:
        case Tokenizer():
            return choice
        case "char":
            characters = (text for _, text in origin.texts(BETWEEN_DOCUMENTS) if text)
            return _learned(origin.folder("char"), lambda: CharTokenizer.train(characters))
        case "byte":
            return ByteTokenizer()
        case "bpe" | "wordpiece":
            full = (choice, special) == ("bpe", "all")
            train, more = (learn_bpe, ["all", LEARNED_FORMAT]) if full else (TRAINED[choice], [])
            folder = origin.folder(choice, bpe_size, origin.fraction, *more)
            return _learned(folder, lambda: train(_training_words(origin), bpe_size))
        case "gpt2":
            return published_gpt2(root)
    path = Path(choice).expanduser()
    if not path.exists():
        raise ValueError(f"tokenizer must be {', '.join(TOKENIZERS)} or the path of one, got {str(choice)!r}")
    return load_tokenizer(path)


def _learned(folder: Path, train: Callable[[], Tokenizer]) -> Tokenizer:
    try:
        return load_tokenizer(folder)
    except ValueError:  # none yet, or damaged
        tokenizer = train()
        tokenizer.save(folder)
        return tokenizer


def _training_words(origin: Origin) -> Iterator[str]:
    cut, _ = origin.measure(BETWEEN_DOCUMENTS)
    sides = origin.sides(BETWEEN_DOCUMENTS, cut)
    return whole_words((text for side, text in sides if side == "train"), LEARNED, LONGEST)


def _open(folder: Path, origin: Origin, tokenizer: Tokenizer) -> ArrayCorpus | None:
    """The corpus in a folder, having said what its text has of note; None if there is none, or it is damaged."""
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
    for sentence in meta.get("notes", []):
        notice(f"{origin.name}: {sentence}")
    sides = tokens[: train.tokens], tokens[train.tokens :]
    return ArrayCorpus(origin.name, tokenizer, *sides, train, val, meta["sha256"])


def _tokenise(folder: Path, origin: Origin, tokenizer: Tokenizer) -> None:
    """Writes tokens.bin, training before validation, and meta.json into an empty folder."""
    from tqdm import tqdm

    file, notes = folder / "tokens.bin", Notes()
    between = BETWEEN_DOCUMENTS if tokenizer.eos is None else None
    cut, total = origin.measure(between, notes)
    sizes = {"train": asdict(Size(0, 0, 0))}
    with (
        file.open("wb") as out,
        tqdm(total=total, unit="char", unit_scale=True, desc="tokenising", delay=1, disable=None) as bar,
    ):
        for side, part in groupby(origin.sides(between, cut), itemgetter(0)):
            start = 0 if side == "train" else cut
            sizes[side] = asdict(write_tokens(out, (text for _, text in part), tokenizer, start, bar.update))
    meta = {"source": origin.name, "dtype": dtype_of(tokenizer), "sha256": sha256(file), "notes": notes.sentences()}
    write_json(folder / "meta.json", meta | sizes)


def write_tokens(
    file: BinaryIO, part: Iterable[str | None], tokenizer: Tokenizer, start: int, progress: Callable[[int], object]
) -> Size:
    """Encodes the part of the text from character `start` on; None is the end of a document."""
    tokens = chars = size = 0

    def counted() -> Iterator[str | None]:
        nonlocal chars, size
        for text in part:
            chars += len(text or "")
            size += len((text or "").encode())
            progress(len(text or ""))
            yield text

    for ids in encoded(tokenizer, counted(), start):
        file.write(ids.astype(dtype_of(tokenizer)).tobytes())
        tokens += len(ids)
    return Size(tokens, chars, size)
