"""Where text comes from: a name, a file, a folder, a glob, or a Hugging Face data set, as a sequence of documents.

A document is read in blocks of bytes, anew for each pass, so that a corpus may be larger than memory.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from core.files.atomic import sha256
from core.files.downloads import Remote, fetch
from core.files.json_files import read_json, write_json
from core.messages import first_line, nearest

NAMES = ("shakespeare", "pydoc")
PREFIX = "hf:"
PROSE = (".txt", ".text", ".md", ".rst", ".tex", ".org")
CODE = (".py", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".go", ".js", ".ts", ".java", ".sh")
SUFFIXES = PROSE + CODE  # what counts as text in a folder
HUGGING_FACE = f"{PREFIX}NAME[:CONFIG][:SPLIT][:COLUMN]"
REMEMBERED = 64 << 20  # bytes from which on a file's hash is remembered

BLOCK = 1 << 18  # bytes read at once

SHAKESPEARE = Remote(
    path="shakespeare/input.txt",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
    "/data/tinyshakespeare/input.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    instead="use `pydoc`, Python's own documentation, which needs no network",
)


@dataclass(frozen=True)
class Document:
    """One text. label: what an error calls it. read: its UTF-8 from the start, in blocks of bytes."""

    label: str
    read: Callable[[], Iterator[bytes]]
    path: Path | None = None


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
        if document.path is not None:
            digest = remembered_sha256(document.path, memory)
        else:
            digest = _sha256_of_blocks(document.read())
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


def _sha256_of_blocks(blocks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def _files(name: str, paths: list[Path]) -> Source:
    documents = [Document(str(path), partial(_read, path), path) for path in paths if path.stat().st_size]
    return Source(name, lambda: iter(documents))


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _matching(data: str) -> list[Path]:
    path = Path(data).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(_visible_texts(path), key=lambda file: file.relative_to(path).as_posix())
        if not files:
            raise ValueError(f"{data} holds no text: files ending in {' '.join(SUFFIXES)} are read")
        return files
    if glob.has_magic(data):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        if files := [match for match in matches if match.is_file()]:
            return files
        raise ValueError(f"{data} matches no file")
    accepted = f"accepted are {', '.join(NAMES)}, a text file, a folder or glob of text files, {HUGGING_FACE}"
    raise ValueError(f"data = {data!r} is neither a file nor the name of a text; {nearest(data, NAMES, accepted)}")


def _visible_texts(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if not hidden and file.suffix.lower() in SUFFIXES and file.is_file():
            yield file


def _pydoc() -> Source:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError("data = 'pydoc' is not available: this Python comes without pydoc_data.topics") from error
    text = "\n\n".join(topics[name].strip("\n") for name in sorted(topics)) + "\n"
    document = Document("pydoc", lambda: iter([text.encode()]))
    return Source("pydoc", lambda: iter([document]))


def _hugging_face(data: str) -> Source:
    name, config, split, column = (data.removeprefix(PREFIX).split(":") + [""] * 3)[:4]
    rows = _load_rows(data, name, config or None, split or "train")
    column = _text_column(data, rows, column)

    def documents() -> Iterator[Document]:
        for index, text in enumerate(row[column] for row in rows.select_columns([column])):
            if text:
                yield Document(f"row {index} of {data}", partial(_encoded, text))

    return Source(data, documents)


def _encoded(text: str) -> Iterator[bytes]:
    yield text.encode()


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
