"""The documents of a corpus as one stream of text, in blocks."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal

from text.corpus.documents import PLAIN, BadText, Document, Reading, decoded
from text.corpus.tables import rows

Side = Literal["train", "validation"]
END_OF_WORD = re.compile(r"\S[ \n]")
END_OF_TEXT = "<|endoftext|>"  # between the documents of many published texts


class Notes:
    """What a user should know about documents: how often it occurs, and where first."""

    def __init__(self) -> None:
        self.kinds: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, label: str) -> None:
        count, first = self.kinds.get(kind, (0, label))
        self.kinds[kind] = count + 1, first

    def sentences(self) -> list[str]:
        """For example: `left out, because it is not UTF-8 text: 3 (first a.txt)`."""
        return [f"{kind}: {count:,} (first {first})" for kind, (count, first) in self.kinds.items()]


def texts(
    documents: Iterable[Document], between: str | None, reading: Reading = PLAIN, notes: Notes | None = None
) -> Iterator[str | None]:
    """All documents in blocks of text, None between two of them; and `between`, where it is given, as one of its own.

    Raises BadText for a document that cannot be read, unless `reading` says that it is left out.
    """
    parting = (None,) if between is None else (None, between, None)
    notes, begun = notes or Notes(), False
    for document in documents:
        for blocks in documents_in(document, reading, notes):
            first = True
            for text in parted(noted(blocks, document.label, reading, notes), reading.separator):
                if begun and first:
                    yield from parting
                begun, first = True, False
                yield from parting if text is None else (text,)


def documents_in(document: Document, reading: Reading, notes: Notes) -> Iterator[Iterator[str]]:
    """The documents of a file, each in blocks of text: one, or one for each row of a table."""
    try:
        if document.table:
            for row in rows(document, reading.column):
                if isinstance(row, str):
                    yield iter([row])
                elif reading.bad == "refuse":
                    raise row
                else:
                    _leave_out(row, notes)
            return
        if reading.bad == "skip":
            for _ in decoded(document):  # nothing of a file is taken if any of it is bad
                pass
        yield decoded(document)
    except BadText as error:
        if reading.bad == "refuse":
            raise
        _leave_out(error, notes)


def _leave_out(bad: BadText, notes: Notes) -> None:
    notes.add(f"left out, because it {bad.reason}", bad.label)


def parted(blocks: Iterable[str], mark: str) -> Iterator[str | None]:
    """The blocks, with None in place of every `mark`."""
    if not mark:
        yield from blocks
        return
    held = ""
    for block in blocks:
        *before, held = (held + block).split(mark)
        for text in before:
            yield from (text, None) if text else (None,)
        safe = max(0, len(held) - len(mark) + 1)  # what follows may begin a mark
        if safe:
            yield held[:safe]
        held = held[safe:]
    if held:
        yield held


def noted(blocks: Iterable[str], label: str, reading: Reading, notes: Notes) -> Iterator[str]:
    """The blocks, having noted what is in them."""
    marks = {"\r\n": "with Windows line ends (CRLF), which are kept"}
    if not reading.separator:
        marks[END_OF_TEXT] = f"with {END_OF_TEXT}, which is read as letters without --separator '{END_OF_TEXT}'"
    for block in blocks:
        for mark in [mark for mark in marks if mark in block]:
            notes.add(f"documents {marks.pop(mark)}", label)
        yield block


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


def whole_words(stream: Iterable[str | None], size: int, largest: int) -> Iterator[str]:
    """The documents in texts of up to `size` characters that end where a word does, if it has up to `largest`.

    No word of GPT-2's split is cut, so that an encoding is learned from the same words: none holds a space or a line
    end behind anything but spaces.
    """
    held = ""
    for block in chain(stream, [None]):
        held += block or ""
        while len(held) > size and (end := end_of_word(held, size)):
            yield held[:end]
            held = held[end:]
        if held and (block is None or len(held) > largest):
            yield held
            held = ""


def end_of_word(text: str, size: int) -> int:
    """The last place up to `size`, or else the first, where a space or a line end follows anything else; else 0."""
    end = size + 1
    while (end := max(text.rfind(" ", 0, end), text.rfind("\n", 0, end))) > 0:
        if not text[end - 1].isspace():
            return end
    found = END_OF_WORD.search(text, size)
    return found.start() + 1 if found else 0
