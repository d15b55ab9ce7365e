"""Where text comes from: names, files, folders, globs, and Hugging Face data sets, as a sequence of documents."""

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from core.files.atomic import sha256
from core.files.downloads import Remote, fetch
from core.files.json_files import read_json, write_json
from core.messages import first_line, nearest, notice
from core.training.folder import is_run_folder
from text.corpus.documents import PLAIN, TABLES, Document, Reading, plain_name
from text.corpus.published import NOVELS, find_novels
from text.corpus.tables import text_column

Hub = Literal["loaded", "streamed"]
Data = str | Path | Sequence[str]
"""What a user names: one thing, or several."""

NAMES = ("shakespeare", "pydoc", NOVELS)
PREFIX = "hf:"
PROSE = (".txt", ".text", ".md", ".rst", ".tex", ".org")
CODE = (".py", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".go", ".js", ".ts", ".java", ".sh")
SUFFIXES = PROSE + CODE  # what counts as text in a folder
RUNS = ("metrics.jsonl", "checkpoints", "samples")  # what a run writes that would pass for text
HUGGING_FACE = f"{PREFIX}NAME[:CONFIG][:SPLIT][:COLUMN]"
REMEMBERED = 64 << 20  # bytes from which on a file's hash is remembered

SHAKESPEARE = Remote(
    path="shakespeare/input.txt",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
    "/data/tinyshakespeare/input.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    instead="use `pydoc`, Python's own documentation, which needs no network",
)


@dataclass(frozen=True)
class Source:
    """A sequence of documents, always in the same order. columns: whether a column is chosen among several."""

    name: str
    documents: Callable[[], Iterator[Document]]
    columns: bool = False


def find_source(data: Data, root: Path | None = None, reading: Reading = PLAIN, hub: Hub = "loaded") -> Source:
    """The documents that `data` names, in order.

    - `shakespeare`: Karpathy's tiny Shakespeare, 1.1 MB, under `root` (default: `data_root()`) or downloaded.
    - `pydoc`: the documentation that comes with this Python, about 0.5 MB; it differs between versions.
    - `british_novels`: 14 English novels of the 19th century, 17 MB, under `root`; `british_novels:valid` and
      `british_novels:test` are one more each.
    - a file: one of TABLES is read row by row, any other as text; both may be compressed (.gz, .bz2, .xz).
    - a glob (`**` goes into folders): every file that it matches.
    - a folder: every file below it with one of SUFFIXES, or else every table, in the order of their paths. What is
      hidden, or written by a run, is left out.
    - `hf:NAME[:CONFIG][:SPLIT][:COLUMN]`: a data set of the `datasets` library, one document a row; by default the
      split `train`, and the column `text` or the only one. It is loaded first, or `streamed` while it is read.
    - several of these.

    Empty documents are left out. Raises ValueError, saying what is accepted, if there is no such thing.
    """
    names = [str(data)] if isinstance(data, (str, Path)) else [*data]
    if not names or not all(name.strip() for name in names):
        raise ValueError(f"data = {data!r} is empty; {_accepted()}")
    sources = [_find(name, root, reading, hub) for name in names]
    if len(sources) == 1:
        return sources[0]
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    together, columns = ", ".join(names[:3]) + rest, any(source.columns for source in sources)
    return Source(together, lambda: chain.from_iterable(source.documents() for source in sources), columns)


def _find(name: str, root: Path | None, reading: Reading, hub: Hub) -> Source:
    if name == "shakespeare":
        return _files(name, [fetch(SHAKESPEARE, root)])
    if name == "pydoc":
        return _pydoc()
    if name.partition(":")[0] == NOVELS:
        return _files(name, [find_novels(name, root)])
    if name.startswith(PREFIX):
        return _hugging_face(name, reading.column, hub)
    return _files(name, [path for path in _matching(name, reading) if _readable(path, reading)])


def content_hash(source: Source, memory: Path) -> str:
    """SHA-256 over the hashes of all documents. Those of large files are kept in the folder `memory`.

    Raises ValueError if the source holds no text at all.
    """
    whole = hashlib.sha256()
    nothing = whole.digest()
    for document in source.documents():
        path, content = document.path, document.content
        digest = remembered_sha256(path, memory) if path else hashlib.sha256(content).hexdigest()
        whole.update(bytes.fromhex(digest) + document.treatment.encode())
    if whole.digest() == nothing:
        raise ValueError(f"{source.name} is empty: there is no text to learn from")
    return whole.hexdigest()


def remembered_sha256(path: Path, memory: Path, least: int | None = None) -> str:
    """SHA-256 of a file; one of `least` (or REMEMBERED) bytes is read again only if its size or time has changed."""
    status = path.stat()
    if status.st_size < (REMEMBERED if least is None else least):
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


def _files(name: str, paths: Iterable[Path]) -> Source:
    documents = [Document(str(path), path) for path in paths if path.stat().st_size]
    return Source(name, lambda: iter(documents), any(document.table for document in documents))


def _readable(path: Path, reading: Reading) -> bool:
    """Whether a file can be opened; if not, it is refused or left out."""
    if os.access(path, os.R_OK):
        return True
    problem = "cannot be read: permission is denied" if path.exists() else "is a link to what does not exist"
    if reading.bad == "refuse":
        raise ValueError(f"{path} {problem}; --skip-bad leaves such files out")
    notice(f"left out: {path} {problem}")
    return False


def _matching(data: str, reading: Reading) -> list[Path]:
    path = Path(data).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        return _in_folder(data, path, reading)
    if glob.has_magic(data):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        fixed = Path(*(part for part in path.parts[: _magic(path)]))
        if files := [match for match in matches if not match.is_dir() and not _in_a_run(fixed, match)]:
            return files
        raise ValueError(f"{data} matches no file")
    raise ValueError(f"data = {data!r} is neither a file nor the name of a text; {nearest(data, NAMES, _accepted())}")


def _accepted() -> str:
    return f"accepted are {', '.join(NAMES)}, text files and tables, folders and globs of them, {HUGGING_FACE}"


def _magic(path: Path) -> int:
    """The place of the first part of a glob that is not plain."""
    return next(place for place, part in enumerate(path.parts) if glob.has_magic(part))


def _in_folder(data: str, folder: Path, reading: Reading) -> list[Path]:
    files = sorted(_walk(folder), key=Path.as_posix)
    plain = [] if reading.column else [file for file in files if plain_name(file).endswith(SUFFIXES)]
    chosen = plain or [file for file in files if plain_name(file).endswith(TABLES)]
    if not chosen:
        read = " ".join(TABLES if reading.column else SUFFIXES + TABLES)
        own = ", but is the folder of a run" if is_run_folder(folder) else ""
        raise ValueError(f"{data} holds no text{own}: files ending in {read} are read")
    if others := Counter(file.suffix.lower() or "no suffix" for file in set(files) - set(chosen)):
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(6))
        notice(f"{data}: {len(chosen)} files are read, others left out: {kinds}")
    return chosen


def _walk(folder: Path) -> Iterator[Path]:
    """The files below a folder, through links, without what is hidden or of a run."""
    entered: set[str] = set()
    for at, inner, names in os.walk(folder, onerror=_refuse, followlinks=True):
        here, real = Path(at), os.path.realpath(at)
        left_out = RUNS if here == folder and is_run_folder(folder) else ()
        names, inner[:] = ([n for n in both if not n.startswith(".") and n not in left_out] for both in (names, inner))
        inner[:] = [] if real in entered else [name for name in inner if not is_run_folder(here / name)]
        yield from (here / name for name in names if real not in entered)
        entered.add(real)  # a link that leads back, or to the same place, adds nothing


def _refuse(error: OSError) -> None:
    raise error


def _in_a_run(folder: Path, file: Path) -> bool:
    """Whether a file below a folder was written by a run."""
    parts = file.relative_to(folder).parts
    inside = any(is_run_folder(folder.joinpath(*parts[:depth])) for depth in range(1, len(parts)))
    return inside or (is_run_folder(folder) and parts[0] in RUNS)


def _pydoc() -> Source:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ValueError("data = 'pydoc' is not available: this Python comes without pydoc_data.topics") from error
    text = "\n\n".join(topics[name].strip("\n") for name in sorted(topics)) + "\n"
    document = Document("pydoc", content=text.encode())
    return Source("pydoc", lambda: iter([document]))


def _hugging_face(data: str, column: str, hub: Hub) -> Source:
    name, config, split, own = (data.removeprefix(PREFIX).split(":") + [""] * 3)[:4]
    rows = _load_rows(data, name, config or None, split or "train", hub)
    column = text_column(data, _columns_of_text(data, rows), own or column)

    def documents() -> Iterator[Document]:
        for index, text in enumerate(row[column] for row in rows.select_columns([column])):
            if text:
                yield Document(f"row {index} of {data}", content=text.encode())

    return Source(data, documents, columns=True)


def _columns_of_text(data: str, rows: Any) -> list[str]:
    """By what the set says of itself, or else by its first row."""
    if rows.features:
        return [name for name, feature in rows.features.items() if feature.dtype in ("string", "large_string")]
    with _named(data):
        return [name for name, value in next(iter(rows), {}).items() if isinstance(value, str)]


def _load_rows(data: str, name: str, config: str | None, split: str, hub: Hub) -> Any:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ValueError(f"{data} needs the `datasets` library: pip install datasets") from error
    with _named(data):
        return load_dataset(name, config, split=split, streaming=hub == "streamed")


@contextmanager
def _named(data: str) -> Iterator[None]:
    """Inside, the library raises what its readers and the network raise; outside, one sentence that names the data."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{data} cannot be loaded as {HUGGING_FACE}: {first_line(error)}") from error
