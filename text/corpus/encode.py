"""A stream of text as tokens, in memory that grows neither with the text nor with its documents.

A tokenizer that encodes every character by itself gets the blocks that the text is read in. Any other gets windows that
overlap. Two encodings of a stretch differ near its ends only; they are joined where both have the same two tokens side
by side. Whether tokens are those of their text is decided by pairs of neighbours in byte-pair encoding, and within a
word in WordPiece and unigram encoding, so that a document of any length gets the tokens that it would get whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from core.messages import notice
from text.tokens.base import Ids, Tokenizer, UnknownCharacterError
from text.tokens.library import LibraryTokenizer

if TYPE_CHECKING:
    from tokenizers import Encoding

WINDOW = 1 << 15  # characters encoded at once
OVERLAP = 1 << 11  # of these, so many are the end of the window before
TOGETHER = 8 * WINDOW  # characters encoded in parallel; their encodings take over 300 bytes a character
LARGEST = 1 << 20  # characters without a place to join at, after which the text is cut


class Window(NamedTuple):
    """A stretch of a document. joins: whether it begins with the last OVERLAP characters of the one before."""

    text: str
    joins: bool = False


class Encoded(NamedTuple):
    """An encoded window, from token `start` on: those before were taken from the window before."""

    window: Window
    encoding: Encoding
    ids: Ids
    start: int = 0

    def rest(self) -> Ids:
        return self.ids[self.start :]

    def around(self, token: int, shift: int = 0) -> list[tuple[int, int, int]]:
        """A token and the one before it: their ids, and the characters that they span. Empty inside a character."""
        pair = [(int(self.ids[index]), *self.span(index, shift)) for index in (token - 1, token)]
        return pair if pair[0][2] <= pair[1][1] else []

    def span(self, token: int, shift: int = 0) -> tuple[int, int]:
        """The characters of a token."""
        begin, end = self.encoding.token_to_chars(token) or (0, 0)
        return begin - shift, end - shift


def encoded(tokenizer: Tokenizer, blocks: Iterable[str | None], position: int = 0) -> Iterator[Ids]:
    """The tokens of a text in blocks, int64 (T,) at a time; None between two documents becomes the end of a text.

    position: of the first character in a longer text, by which an unknown one is named.
    """
    if isinstance(tokenizer, LibraryTokenizer):
        yield from _joined(tokenizer, blocks)
        return
    for text in filter(None, blocks):
        try:
            yield tokenizer.encode(text)
        except UnknownCharacterError as error:
            raise UnknownCharacterError(error.character, position + error.position, error.vocab_size) from None
        position += len(text)


def windows(blocks: Iterable[str | None]) -> Iterator[Window | None]:
    """The windows of each document, and None between two documents."""
    text, joins = "", False
    for block in blocks:
        text += block or ""
        while len(text) > WINDOW:
            yield Window(text[:WINDOW], joins)
            text, joins = text[WINDOW - OVERLAP :], True
        if block is None:
            yield from (Window(text, joins), None) if text else (None,)
            text, joins = "", False
    if text:
        yield Window(text, joins)


def find_seam(first: Encoded, second: Encoded) -> tuple[int, int] | None:
    """Where two windows are joined: the first before this token, the second from that one on.

    It is as near to the middle of the overlap as can be; None where the two agree nowhere in the middle half.
    """
    shift = len(first.window.text) - OVERLAP
    for distance in range(OVERLAP // 4):
        for place in (OVERLAP // 2 - distance, OVERLAP // 2 + distance):
            left, right = first.encoding.char_to_token(shift + place), second.encoding.char_to_token(place)
            if left and right and (pair := first.around(left, shift)) and pair == second.around(right):
                return left, right
    return None


def _joined(tokenizer: LibraryTokenizer, blocks: Iterable[str | None]) -> Iterator[Ids]:
    end = [] if tokenizer.eos is None else [np.array([tokenizer.eos])]
    last: Encoded | None = None
    for now in _encoded_windows(tokenizer, windows(blocks)):
        if last and not (now and now.window.joins):
            yield last.rest()
            last = None
        if now is None:
            yield from end
        elif last is None:
            last = now
        else:
            taken, last = _join(tokenizer, last, now)
            yield taken
    if last:
        yield last.rest()


def _join(tokenizer: LibraryTokenizer, last: Encoded, now: Encoded) -> tuple[Ids, Encoded]:
    """The tokens up to where two windows are joined, and what is left; without such a place they become one window."""
    if seam := find_seam(last, now):
        return last.ids[last.start : seam[0]], now._replace(start=seam[1])
    more = now.window.text[OVERLAP:]
    if len(last.window.text) + len(more) <= LARGEST:
        [longer] = _encode(tokenizer, [Window(last.window.text + more)])
        start = longer.encoding.char_to_token(last.span(last.start)[0]) if last.start else 0
        return last.ids[:0], longer._replace(start=start or 0)
    notice(f"a stretch of {LARGEST:,} characters is tokenised in parts: no two tokens in it are certain")
    return last.rest(), _encode(tokenizer, [Window(more)])[0]


def _encode(tokenizer: LibraryTokenizer, group: Sequence[Window]) -> list[Encoded]:
    encodings = tokenizer.encode_spans([window.text for window in group])
    return [Encoded(w, e, np.array(e.ids, np.int64)) for w, e in zip(group, encodings, strict=True)]


def _encoded_windows(tokenizer: LibraryTokenizer, stream: Iterable[Window | None]) -> Iterator[Encoded | None]:
    """The windows encoded in groups, in parallel."""
    for group in _groups(stream):
        results = iter(_encode(tokenizer, list(filter(None, group))))
        yield from (next(results) if window else None for window in group)


def _groups(stream: Iterable[Window | None]) -> Iterator[list[Window | None]]:
    """Windows of TOGETHER characters, or somewhat more."""
    group: list[Window | None] = []
    length = 0
    for window in stream:
        group.append(window)
        length += len(window.text) if window else 0
        if length >= TOGETHER:
            yield group
            group, length = [], 0
    yield group
