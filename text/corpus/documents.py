"""Files of text, read from the start in blocks, so that one may be larger than memory."""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal

from core.checks import check_choices

BLOCK = 1 << 18  # bytes read at once
COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
TABLES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Reading:
    """How the documents in files are read.

    column: of tables, the one that holds the text; by default `text`, or the only one that holds any.
    separator: a text that stands between two documents of a file; by default a file, or a row of a table, is one.
    bad: whether a file or a row that cannot be read is refused or left out.
    """

    column: str = ""
    separator: str = ""
    bad: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        check_choices(self)


PLAIN = Reading()


class BadText(ValueError):
    """A file or a row that cannot be read. reason: without its label, so that such texts can be counted."""

    def __init__(self, label: str, reason: str, where: str = "") -> None:
        self.label, self.reason = label, reason
        super().__init__(f"{label} {reason}{where}")


@dataclass(frozen=True)
class Document:
    """A file, or a text in memory. label: what an error calls it."""

    label: str
    path: Path | None = None
    content: bytes = b""

    @property
    def table(self) -> str:
        """Which of TABLES the file is; "" for text."""
        name = plain_name(self.path) if self.path else ""
        return next((suffix for suffix in TABLES if name.endswith(suffix)), "")

    @property
    def treatment(self) -> str:
        """What, beside its bytes, determines the text: "" where they are the text."""
        if self.table:
            return self.table
        with self.path.open("rb") if self.path else io.BytesIO(self.content) as file:
            return "without mark" if file.read(3) == codecs.BOM_UTF8 else ""

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Its bytes, decompressed. Raises BadText for a damaged compressed file."""
        if self.path is None:
            yield io.BytesIO(self.content)
        elif compressed := COMPRESSED.get(self.path.suffix.lower()):
            try:
                with compressed(self.path, "rb") as file:
                    yield file
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise BadText(self.label, "is damaged", f": {error}") from error
        else:
            with self.path.open("rb") as file:
                yield file

    def read(self) -> Iterator[bytes]:
        """Its bytes from the start, in blocks."""
        with self.opened() as file:
            while block := file.read(BLOCK):
                yield block


def plain_name(path: Path) -> str:
    """The name of a file in lower case, without the suffix of a compression."""
    name = path.name.lower()
    return name.removesuffix(path.suffix.lower()) if path.suffix.lower() in COMPRESSED else name


def decoded(document: Document) -> Iterator[str]:
    """A document's text, block by block, without a byte-order mark. Raises BadText naming the first bad byte."""
    blocks, start = document.read(), b""
    while len(start) < len(codecs.BOM_UTF8) and (block := next(blocks, b"")):
        start += block
    if start.startswith(UTF16):
        raise BadText(document.label, "is UTF-16, not UTF-8 text", ": save it as UTF-8")
    offset = len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    for block in chain([start[offset:]], blocks, [b""]):
        pending = len(decoder.getstate()[0])  # bytes of a character that the last block began
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            place = f": byte 0x{error.object[error.start]:02x} at offset {offset - pending + error.start}"
            raise BadText(document.label, "is not UTF-8 text", place) from error
        offset += len(block)
        if text:
            yield text


def lines(document: Document) -> Iterator[str | BadText]:
    """A document's lines in order, without their ends (LF or CRLF, nothing else), or what is wrong with one.

    Raises BadText for a file in UTF-16.
    """
    with document.opened() as file:
        for number, line in enumerate(file, 1):
            if number == 1 and line.startswith(UTF16):
                raise BadText(document.label, "is UTF-16, not UTF-8 text", ": save it as UTF-8")
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            try:
                yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
            except UnicodeDecodeError as error:
                place = f": byte 0x{line[error.start]:02x} at its position {error.start}"
                yield BadText(f"line {number} of {document.label}", "is not UTF-8 text", place)
