"""A source as a stream of text, divided only where its tokens stay the same.

A tokenizer that encodes every character by itself gets the text in the blocks in which it is read. Any other gets each
document whole; one of more than LARGEST characters is cut at blank lines, and a line on stderr says so, since a token
or two at every cut may be others.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Literal

from core.messages import notice
from text.corpus.sources import Document, Source

Side = Literal["train", "validation"]
Unit = Literal["character", "document"]

LARGEST = 1 << 22  # characters encoded at once: byte-pair encoding takes more than 100 bytes of memory for each
BETWEEN_DOCUMENTS = "\n\n"  # where no token ends a text


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
            yield ("train" if left > 0 else "validation"), None
            continue
        if left > 0:
            yield "train", text[:left]
        if left < len(text):
            yield "validation", text[max(left, 0) :]
        left -= len(text)


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
