"""Tokenise a text that is larger than memory, in several processes, into files that `text.train --data DIR` reads.

python -m text.tokenize SOURCE [SOURCE ...] --tokenizer gpt2 --out DIR
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from core.checks import check_positive
from core.cli.arguments import REQUIRED, TEXT, parse_fields
from core.cli.exits import main
from core.files.atomic import atomic_write, remove, sha256, write_text
from core.files.downloads import data_root
from core.files.json_files import write_json
from core.messages import notice
from text.corpus.documents import Reading
from text.corpus.load import BETWEEN_DOCUMENTS, HASHES, LEARNED, LONGEST, TRAINED, write_tokens
from text.corpus.shards import PROGRESS, RECORD, Shard, check_shard, cut, dtype_of, record_of, text_hash
from text.corpus.sources import Source, find_source
from text.corpus.stream import Notes, texts, whole_words
from text.tokens.base import FILE, ByteTokenizer, Tokenizer
from text.tokens.load import load_tokenizer, published_gpt2

DESCRIPTION = (
    "Turns texts, named as for text.train, into shards of tokens. Called again after an interruption, it keeps what is "
    "finished; hf: sets are streamed."
)
SAMPLE = 1 << 27  # characters from the start of the text that a tokenizer is learned from

Piece = list[str | None]


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig:
    """Settings of `text.tokenize`."""

    out: Path = field(default=Path(), metadata={REQUIRED: True})
    """Folder of the shards."""
    tokenizer: str = field(default="", metadata={REQUIRED: True})
    """gpt2, byte, a tokenizer file, or a folder that has one, as a run's; bpe or wordpiece is learned from the text."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe or wordpiece; default 32768."""
    column: str = ""
    """Column of tables that holds the text; default text, or the only one that holds any."""
    separator: str = field(default="", metadata={TEXT: True})
    """A text between two documents of a file, in place of which the tokenizer's end of text is put."""
    skip_bad: bool = False
    """Leave out what cannot be read (not UTF-8, damaged, rows without text) rather than refuse it."""
    shard_chars: int = 1 << 26
    """Characters of a shard, about."""
    processes: int = os.cpu_count() or 1
    """Processes that encode; another one reads."""

    def __post_init__(self) -> None:
        check_positive(self, "bpe_size", "shard_chars", "processes")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        learned = self.tokenizer in TRAINED
        return {} if learned else {"bpe_size": "only a bpe or wordpiece tokenizer is learned to a given size"}

    @property
    def reading(self) -> Reading:
        """How documents are read."""
        return Reading(self.column, self.separator, "skip" if self.skip_bad else "refuse")


def tokenize(argv: list[str]) -> None:
    """The command."""
    names, flags = words_before_options(argv)
    config = parse_fields(TokenizeConfig(), flags, prog="python -m text.tokenize SOURCE ...", description=DESCRIPTION)
    for name, value in (("SOURCE", names), ("--out", config.out != Path()), ("--tokenizer", config.tokenizer)):
        if not value:
            raise ValueError(f"name {name}: python -m text.tokenize SOURCE --tokenizer gpt2 --out DIR")
    if empty := [name for name in names if not name.strip()]:
        raise ValueError(f"SOURCE: {empty[0]!r} is empty, and names nothing; was a variable not set?")
    source = find_source(names, reading=config.reading, hub="streamed")
    made = Folder(config.out, [*names], config)
    shards = made.write(source, config)
    total = sum(shard.tokens for shard in shards)
    print(f"{total:,} tokens in {len(shards)} shards; train on them with --data {config.out}")


def words_before_options(argv: list[str]) -> tuple[list[str], list[str]]:
    """The words of a command line before its first option, and the rest."""
    first = next((place for place, word in enumerate(argv) if word.startswith("--")), len(argv))
    return argv[:first], argv[first:]


class Folder:
    """The folder that is being made, and what is finished of it."""

    def __init__(self, folder: Path, sources: list[str], config: TokenizeConfig):
        """Makes it, or goes on with it. Raises ValueError for a folder that holds anything else, or other tokens."""
        self.folder, self.done = folder, dict[int, Shard]()
        kept = ("tokenizer", "bpe_size", "column", "separator", "skip_bad", "shard_chars")
        self.settings = {"sources": sources} | {name: getattr(config, name) for name in kept}
        before = next(filter(None, map(self._read, (folder / RECORD, folder / PROGRESS))), None)
        if before is None and folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise ValueError(f"{folder} is not empty; take a new folder as --out")
        for name, value in self.settings.items():
            if before is not None and before.get(name) != value:
                raise ValueError(f"{folder} was made with {name} = {before.get(name)!r}, not {value!r}")
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(".*.part"):
            remove(stale)
        lines = [{"settings": self.settings}, *map(asdict, self.done.values())]
        write_text(folder / PROGRESS, "".join(json.dumps(line) + "\n" for line in lines))

    def _read(self, file: Path) -> dict[str, Any] | None:
        """The settings of a record, finished or not, having noted its shards; None where there is none."""
        if not file.is_file():
            return None
        text = file.read_text(encoding="utf-8")
        lines = [text] if file.name == RECORD else text.splitlines(keepends=True)
        records = list[dict[str, Any]]()
        for line in lines:
            with suppress(ValueError):  # cut by a kill
                records.append(json.loads(line))
        listed = records[0].get("shards", []) if records else []
        for shard in [*listed, *records[1:]]:
            self.done[int(shard["name"][6:11])] = Shard(**shard)
        return records[0]["settings"] if records else None

    def write(self, source: Source, config: TokenizeConfig) -> list[Shard]:
        """Writes the shards that are not finished, then the record of all."""
        from tqdm import tqdm

        tokenizer, notes = self.tokenizer(source, config), Notes()
        between = BETWEEN_DOCUMENTS if tokenizer.eos is None else None
        pieces = cut(texts(source.documents(), between, config.reading, notes), config.shard_chars)
        with (
            encoders(config.processes) as pool,
            (self.folder / PROGRESS).open("a", encoding="utf-8") as progress,
            tqdm(unit="char", unit_scale=True, desc="tokenising", delay=1, disable=None) as bar,
        ):
            for number, shard, chars in self._shards(pool, pieces, dtype_of(tokenizer), config.processes):
                if self.done.get(number) != shard:
                    self.done[number] = shard
                    progress.write(json.dumps(asdict(shard)) + "\n")
                    progress.flush()
                bar.update(chars)
        return self._finish(source, tokenizer, notes)

    def _shards(
        self, pool: Executor | None, pieces: Iterator[Piece], dtype: str, most: int
    ) -> Iterator[tuple[int, Shard, int]]:
        """Every shard with its number and characters, those that are made as they are finished."""
        self.count, position, pending = 0, 0, dict[Future[Shard], tuple[int, int]]()
        for number, piece in enumerate(pieces):
            chars, digest = sum(len(block or "") for block in piece), text_hash(piece)
            if kept := self._kept(number, digest, dtype):
                yield number, kept, chars
            elif pool is None:
                yield number, write_shard(self.folder, number, piece, position, digest), chars
            else:
                pending[pool.submit(write_shard, self.folder, number, piece, position, digest)] = number, chars
            position, self.count = position + chars, number + 1
            if len(pending) > most:
                yield from _ended(pending)
        while pending:
            yield from _ended(pending)

    def _kept(self, number: int, digest: str, dtype: str) -> Shard | None:
        """A shard that is finished, made from this text, and undamaged."""
        shard = self.done.get(number)
        if shard is None or shard.text != digest:
            return None
        try:
            check_shard(self.folder, shard, dtype, data_root() / "cache" / "text" / HASHES)
        except ValueError as error:
            notice(f"made again: {str(error).partition(';')[0]}")
            return None
        return shard

    def _finish(self, source: Source, tokenizer: Tokenizer, notes: Notes) -> list[Shard]:
        shards = [self.done[number] for number in range(self.count)]
        if not sum(shard.tokens for shard in shards):
            raise ValueError(f"{source.name} is empty: there is no text to tokenise")
        for sentence in notes.sentences():
            notice(f"{source.name}: {sentence}")
        more = {"settings": self.settings, "notes": notes.sentences()}
        write_json(self.folder / RECORD, record_of(source.name, dtype_of(tokenizer), shards, **more))
        (self.folder / PROGRESS).unlink()
        for file in {*self.folder.glob("shard-*.bin")} - {self.folder / shard.name for shard in shards}:
            remove(file)
        return shards

    def tokenizer(self, source: Source, config: TokenizeConfig) -> Tokenizer:
        """The tokenizer in the folder, or the one that is asked for, which then is there."""
        if (self.folder / FILE).is_file():
            return load_tokenizer(self.folder)
        tokenizer = chosen_tokenizer(source, config)
        tokenizer.save(self.folder)
        return tokenizer


def _ended(pending: dict[Future[Shard], tuple[int, int]]) -> Iterator[tuple[int, Shard, int]]:
    """Waits for one shard at least; what was made, which is then no longer pending."""
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        number, chars = pending.pop(future)
        yield number, future.result(), chars


def chosen_tokenizer(source: Source, config: TokenizeConfig) -> Tokenizer:
    """The tokenizer that is named, or learned from the start of the text. Raises ValueError for any other."""
    match config.tokenizer:
        case "gpt2":
            return published_gpt2()
        case "byte":
            return ByteTokenizer()
        case "bpe" | "wordpiece":
            words = whole_words(texts(source.documents(), BETWEEN_DOCUMENTS, config.reading), LEARNED, LONGEST)
            return TRAINED[config.tokenizer](islice(words, SAMPLE // LEARNED), config.bpe_size or 1 << 15)
    path = Path(config.tokenizer).expanduser()
    if not path.exists():
        names = "gpt2, byte, bpe, wordpiece or the path of one"
        raise ValueError(f"tokenizer must be {names}, got {config.tokenizer!r}")
    return load_tokenizer(path)


def write_shard(folder: Path, number: int, piece: Piece, position: int, digest: str) -> Shard:
    """Writes the tokens of a piece, whose first character has this position in the text; whole or not at all."""
    name, tokenizer = f"shard-{number:05d}.bin", load_tokenizer(folder)
    with atomic_write(folder / name) as aside:
        with aside.open("wb") as file:
            size = write_tokens(file, piece, tokenizer, position, lambda _: None)
        written = sha256(aside)
    return Shard(name, size.tokens, size.chars, size.bytes, written, digest)


@contextmanager
def encoders(processes: int) -> Iterator[Executor | None]:
    """Processes that write shards; None for one, which is this process."""
    if processes == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        context.set_forkserver_preload(["text.tokenize"])
    pool = ProcessPoolExecutor(processes, context, _start_encoder)
    try:
        yield pool
    except BaseException:  # what they are at is made again
        for encoder in multiprocessing.active_children():
            encoder.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_encoder() -> None:
    """Makes an encoder leave Ctrl-C to the process that reads, end when that does, and use one thread."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


if __name__ == "__main__":
    main(lambda: tokenize(sys.argv[1:]))
