"""The text of a source: decoded block by block, whole documents, and the two sides of the split."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.corpus import documents
from text.corpus.documents import decoded, place_to_cut, split, texts
from text.corpus.sources import Document, Source


def document(text: str, block: int = 5, label: str = "it") -> Document:
    raw = text.encode()
    return Document(label, lambda: iter([raw[i : i + block] for i in range(0, len(raw), block)]))


def source(*documents: Document) -> Source:
    return Source("some", lambda: iter(documents))


@pytest.mark.parametrize(
    ("text", "end", "place"),
    [
        ("one\n\ntwo\n\nthree", 12, 10),
        ("one\n\ntwo\nthree", 11, 5),
        ("one\ntwo\nthree", 9, 8),
        ("one two three", 5, 5),
        ("one\n\ntwo", 4, 4),  # half a blank line is a line
    ],
)
def test_a_large_text_is_cut_at_a_blank_line_or_else_a_line(text: str, end: int, place: int) -> None:
    assert place_to_cut(text, end) == place


def test_a_document_that_is_not_large_is_encoded_whole() -> None:
    assert list(texts(source(document("One.\n\nTwo.\n")), "document")) == ["One.\n\nTwo.\n"]


def test_a_large_document_is_cut_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(documents, "LARGEST", 16)
    large = source(document("One.\n\nTwo.\n\nThree.\n\nFour, without an end" + "." * 20, label="large.txt"))
    parts = ["One.\n\nTwo.\n\n", "Three.\n\n", "Four, without an", " end............", "........"]
    for _ in range(2):
        assert list(texts(large, "document")) == parts
    [line] = capfd.readouterr().err.splitlines()
    assert "large.txt" in line
    assert "blank lines" in line


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 7))
def test_blocks_join_to_the_text_even_where_they_divide_a_character(text: str, size: int) -> None:
    assert "".join(decoded(document(text, size))) == text


@given(st.lists(st.one_of(st.none(), st.text(max_size=6)), max_size=8), st.integers(1, 30))
def test_the_split_is_after_so_many_characters(stream: list[str | None], cut: int) -> None:
    whole = "".join(text or "" for text in stream)
    sides = list(split(stream, cut))
    assert "".join(text or "" for side, text in sides if side == "train") == whole[:cut]
    assert "".join(text or "" for side, text in sides if side == "validation") == whole[cut:]
    assert sum(text is None for _, text in sides) == stream.count(None)
    assert [side for side, _ in sides] == sorted(side for side, _ in sides)  # "train" comes first


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(
    ("raw", "byte", "offset"),
    [(b"abc\xe9def", "e9", 3), ("né".encode() + b"\xff", "ff", 3), ("漢".encode() + b"ab\xe6\xbc", "e6", 5)],
)
def test_the_first_byte_that_is_not_utf8_is_named(raw: bytes, byte: str, offset: int, size: int) -> None:
    def read() -> Iterator[bytes]:
        return iter([raw[i : i + size] for i in range(0, len(raw), size)])

    with pytest.raises(ValueError, match=f"my.txt .*0x{byte} at offset {offset}$"):
        list(decoded(Document("my.txt", read)))


def test_the_separator_stands_between_documents_only() -> None:
    both = source(document("one"), document("two"))
    assert list(texts(both, "character")) == ["one", "\n\n", "two"]
    assert list(texts(both, "document", separator=None)) == ["one", None, "two"]
