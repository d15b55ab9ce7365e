"""Where text comes from: a name, a file, a folder, a glob, or a Hugging Face data set, as a sequence of documents.

A document is read in blocks, anew for each pass, so that a corpus may be larger than memory. It is divided only where
its tokens stay the same: a tokenizer that encodes every character by itself gets the text in these blocks, any other
gets each document whole. One of more than LARGEST characters is cut at blank lines, and a line on stderr says so, since
a token or two at every cut may be others.
"""

import codecs
import glob
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from core.files.atomic import sha256
from core.files.downloads import Remote, fetch
from core.files.json_files import read_json, write_json
from core.messages import first_line, nearest, notice

Side = Literal["train", "validation"]
Unit = Literal["character", "document"]

NAMES = ("shakespeare", "pydoc")
PREFIX = "hf:"
PROSE = (".txt", ".text", ".md", ".rst", ".tex", ".org")
CODE = (".py", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".go", ".js", ".ts", ".java", ".sh")
SUFFIXES = PROSE + CODE  # what counts as text in a folder
HUGGING_FACE = f"{PREFIX}NAME[:CONFIG][:SPLIT][:COLUMN]"
REMEMBERED = 64 << 20  # bytes from which on a file's hash is remembered
BLOCK = 1 << 18  # bytes read at once
LARGEST = 5 << 18  # characters encoded at once, more than tiny Shakespeare has; each takes over 100 bytes of memory
BETWEEN_DOCUMENTS = "\n\n"  # where no token ends a text

SHAKESPEARE = Remote(
    path="shakespeare/input.txt",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
    "/data/tinyshakespeare/input.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    instead="use `pydoc`, Python's own documentation, which needs no network",
)


@dataclass(frozen=True)
class Document:
    """One text, in a file or in memory. label: what an error calls it."""

    label: str
    path: Path | None = None
    content: bytes = b""

    def read(self) -> Iterator[bytes]:
        """Its UTF-8 from the start, in blocks of bytes."""
        with self.path.open("rb") if self.path else io.BytesIO(self.content) as file:
            while block := file.read(BLOCK):
                yield block


@dataclass(frozen=True)
class Source:
    """A sequence of documents, always in the same order."""

    name: str
    documents: Callable[[], Iterator[Document]]


def find_source(data: str | Path, root: Path | None = None) -> Source:
    """The documents that `data` names.

    - `shakespeare`: Karpathy's tiny Shakespeare, 1.1 MB, under `root` (default: `data_root()`) or downloaded.
    - `pydoc`: the documentation that comes with this Python, about 0.5 MB; it differs between versions.
    - a file, whatever its suffix; a glob (`**` goes into folders), every file that it matches.
    - a folder: every file below it with one of SUFFIXES, hidden ones left out, in the order of their paths.
    - `hf:NAME[:CONFIG][:SPLIT][:COLUMN]`: a data set of the `datasets` library, one document a row; by default the
      split `train`, and the column `text` or the only one.

    Empty documents are left out. Raises ValueError, saying what is accepted, if there is no such thing.
    """
    text = str(data)
    if text == "shakespeare":
        return _files(text, [fetch(SHAKESPEARE, root)])
    if text == "pydoc":
        return _pydoc()
    if text.startswith(PREFIX):
        return _hugging_face(text)
    return _files(text, _matching(text))


def content_hash(source: Source, memory: Path) -> str:
    """SHA-256 over the hashes of all documents. Those of large files are kept in the folder `memory`.

    Raises ValueError if the source holds no text at all.
    """
    whole = hashlib.sha256()
    nothing = whole.digest()
    for document in source.documents():
        path, content = document.path, document.content
        digest = remembered_sha256(path, memory) if path else hashlib.sha256(content).hexdigest()
        whole.update(bytes.fromhex(digest))
    if whole.digest() == nothing:
        raise ValueError(f"{source.name} is empty: there is no text to learn from")
    return whole.hexdigest()


def remembered_sha256(path: Path, memory: Path) -> str:
    """SHA-256 of a file; a large one is read again only if its size or modification time has changed."""
    status = path.stat()
    if status.st_size < REMEMBERED:
        return sha256(path)
    resolved = str(path.resolve())
    stamp = [resolved, status.st_size, status.st_mtime_ns]
    note = memory / f"{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:32]}.json"
    try:
        noted = read_json(note)
        if noted["stamp"] == stamp:
            return str(noted["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no note, or not a readable one
    digest = sha256(path)
    write_json(note, {"stamp": stamp, "sha256": digest})
    return digest


def _files(name: str, paths: list[Path]) -> Source:
    documents = [Document(str(path), path) for path in paths if path.stat().st_size]
    return Source(name, lambda: iter(documents))


def _matching(data: str) -> list[Path]:
    path = Path(data).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        if files := sorted(filter(partial(_is_text, path), path.rglob("*")), key=Path.as_posix):
            return files
        raise ValueError(f"{data} holds no text: files ending in {' '.join(SUFFIXES)} are read")
    if glob.has_magic(data):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        if files := [match for match in matches if match.is_file()]:
            return files
        raise ValueError(f"{data} matches no file")
    accepted = f"accepted are {', '.join(NAMES)}, a text file, a folder or glob of text files, {HUGGING_FACE}"
    raise ValueError(f"data = {data!r} is neither a file nor the name of a text; {nearest(data, NAMES, accepted)}")


def _is_text(folder: Path, file: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.suffix.lower() in SUFFIXES and file.is_file()


def _pydoc() -> Source:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError("data = 'pydoc' is not available: this Python comes without pydoc_data.topics") from error
    text = "\n\n".join(topics[name].strip("\n") for name in sorted(topics)) + "\n"
    document = Document("pydoc", content=text.encode())
    return Source("pydoc", lambda: iter([document]))


def _hugging_face(data: str) -> Source:
    name, config, split, column = (data.removeprefix(PREFIX).split(":") + [""] * 3)[:4]
    rows = _load_rows(data, name, config or None, split or "train")
    column = _text_column(data, rows, column)

    def documents() -> Iterator[Document]:
        for index, text in enumerate(row[column] for row in rows.select_columns([column])):
            if text:
                yield Document(f"row {index} of {data}", content=text.encode())

    return Source(data, documents)


def _load_rows(data: str, name: str, config: str | None, split: str) -> Any:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ValueError(f"{data} needs the `datasets` library: pip install datasets") from error
    try:
        return load_dataset(name, config, split=split)
    except Exception as error:  # the library raises what its readers and the network raise
        raise ValueError(f"{data} cannot be loaded as {HUGGING_FACE}: {first_line(error)}") from error


def _text_column(data: str, rows: Any, column: str) -> str:
    texts = [name for name, feature in rows.features.items() if feature.dtype in ("string", "large_string")]
    if not column:
        column = texts[0] if len(texts) == 1 else "text"
    if column not in texts:
        raise ValueError(f"{data} has no text column {column!r}: it has {', '.join(texts) or 'none'}")
    return column


# A source as a stream of text


def texts(source: Source, unit: Unit, separator: str | None = BETWEEN_DOCUMENTS) -> Iterator[str | None]:
    """All documents, in blocks or whole, with the separator between them. Raises ValueError if one is not UTF-8."""
    for index, document in enumerate(source.documents()):
        if index:
            yield separator
        yield from decoded(document) if unit == "character" else whole(document)


def whole(document: Document) -> Iterator[str]:
    """The document in one string, or in several if it is larger than LARGEST."""
    text = ""
    for block in decoded(document):
        text += block
        while len(text) > LARGEST:
            report_cut(document.label)
            cut = place_to_cut(text, LARGEST)
            yield text[:cut]
            text = text[cut:]
    if text:
        yield text


def place_to_cut(text: str, end: int) -> int:
    """After the last blank line before `end`, or else the last line, or else at `end`."""
    for mark in ("\n\n", "\n"):
        if (place := text.rfind(mark, 0, end)) >= 0:
            return place + len(mark)
    return end


@cache  # once a document: a bpe tokenizer is trained on it before it is encoded
def report_cut(label: str) -> None:
    """Tells the user that a document is not encoded whole."""
    notice(f"{label} is tokenised in parts, cut at blank lines: it has more than {LARGEST:,} characters")


def split(stream: Iterable[str | None], cut: int) -> Iterator[tuple[Side, str | None]]:
    """The stream, each text with its side: training has the first `cut` characters, validation the rest."""
    left = cut
    for text in stream:
        if text is None:
            yield ("train" if left else "validation"), None
            continue
        sides: dict[Side, str] = {"train": text[:left], "validation": text[left:]}
        yield from ((side, part) for side, part in sides.items() if part)
        left = max(0, left - len(text))


def decoded(document: Document) -> Iterator[str]:
    """The document's text, block by block. Raises ValueError naming the first byte that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    for block in chain(document.read(), [b""]):
        pending = len(decoder.getstate()[0])  # bytes of a character that the last block began
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            position = offset - pending + error.start
            byte = error.object[error.start]
            raise ValueError(f"{document.label} is not UTF-8 text: byte 0x{byte:02x} at offset {position}") from error
        offset += len(block)
        if text:
            yield text
