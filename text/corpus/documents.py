"""A source as a stream of text, in pieces that are cut where no token is changed.

The pieces of a document join to the document. They end where the tokenizer allows a cut (`Tokenizer.cuts`),
so their tokens are those of the whole document, with two exceptions: where cuts lie between words, a stretch
of LIMIT characters without a space or a newline is cut all the same; and a tokenizer that allows no cut gets
each document whole, in memory.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal

from text.corpus.sources import Document, Source
from text.tokens.base import Cuts

Side = Literal["train", "validation"]

PIECE = 1 << 15  # characters in a piece, about
LIMIT = 1 << 20  # characters without a place to cut after which the cut is made anywhere
BETWEEN_DOCUMENTS = "\n\n"  # where there is no token that ends a text
BETWEEN_WORDS = re.compile(r"(?<=\S)(?= )|(?<=\S\n)(?=\w)")


def texts(source: Source, cuts: Cuts = "anywhere", separator: str | None = BETWEEN_DOCUMENTS) -> Iterator[str | None]:
    """The pieces of all documents, the separator between them. Raises ValueError if one is not UTF-8."""
    for index, document in enumerate(source.documents()):
        if index:
            yield separator
        yield from pieces(decoded(document), cuts)


def parts(stream: Iterable[str | None], cut: int) -> Iterator[tuple[Side, str | None]]:
    """The stream, each piece with its side: training has the first `cut` characters, validation the rest."""
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


def pieces(blocks: Iterable[str], cuts: Cuts, size: int = PIECE, limit: int = LIMIT) -> Iterator[str]:
    """The text of the blocks in pieces of about `size` characters, cut where it is allowed."""
    text = ""
    for block in blocks:
        text += block
        while len(text) > size and (cut := _place_to_cut(text, cuts, size, limit)):
            yield text[:cut]
            text = text[cut:]
    if text:
        yield text


def _place_to_cut(text: str, cuts: Cuts, size: int, limit: int) -> int:
    """Where to cut a text that is longer than `size`; 0 = not yet, more of it has to be seen."""
    if cuts == "anywhere":
        return size
    if cuts == "nowhere":
        return 0
    for start in (max(0, size - 1024), 0):  # near the end there nearly always is a place
        if found := [match.start() for match in BETWEEN_WORDS.finditer(text, start, size)]:
            return found[-1]
    later = BETWEEN_WORDS.search(text, size)
    if later:
        return later.start()
    return limit if len(text) >= limit else 0


def decoded(document: Document) -> Iterator[str]:
    """The document's text, block by block. Raises ValueError naming the first byte that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    for block in chain(document.read(), [b""]):
        held = len(decoder.getstate()[0])  # bytes of a character that the last block began
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            at = offset - held + error.start
            byte = error.object[error.start]
            raise ValueError(f"{document.label} is not UTF-8 text: byte 0x{byte:02x} at offset {at}") from error
        offset += len(block)
        if text:
            yield text
