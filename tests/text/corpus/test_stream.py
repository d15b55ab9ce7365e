"""The documents of a corpus as one stream: whole characters, separators, sides, what is noted and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.corpus import documents
from text.corpus.documents import BadText, Document, Reading, decoded
from text.corpus.stream import Notes, parted, split, texts, whole_words
from text.tokens.bpe import BPETokenizer

UNICODE = st.text(st.characters(exclude_categories=["Cs"]))


def document(text: str, label: str = "it") -> Document:
    return Document(label, content=text.encode())


@given(UNICODE, st.integers(1, 7), st.booleans())
def test_blocks_join_to_the_text_even_where_they_divide_a_character(text: str, size: int, marked: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "BLOCK", size)
        assert "".join(decoded(document("\ufeff" * marked + text))) == text.removeprefix("" if marked else "\ufeff")


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(
    ("raw", "byte", "offset"),
    [
        (b"abc\xe9def", "e9", 3),
        ("né".encode() + b"\xff", "ff", 3),
        ("漢".encode() + b"ab\xe6\xbc", "e6", 5),
        (b"\xef\xbb\xbfab\xff", "ff", 5),
    ],
)
def test_the_first_byte_that_is_not_utf8_is_named(
    raw: bytes, byte: str, offset: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "BLOCK", size)
    with pytest.raises(ValueError, match=f"my.txt .*0x{byte} at offset {offset}$"):
        list(decoded(Document("my.txt", content=raw)))


def test_utf16_is_refused_by_name() -> None:
    with pytest.raises(BadText, match=r"my.txt is UTF-16.* UTF-8"):
        list(decoded(Document("my.txt", content="Grüße".encode("utf-16"))))


def test_the_separator_stands_between_documents_only() -> None:
    both = [document("one"), document(""), document("two")]
    assert list(texts(both, between="\n\n")) == ["one", None, "\n\n", None, "two"]
    assert list(texts(both, between=None)) == ["one", None, "two"]


@given(st.lists(st.text("ab<|>", max_size=5), max_size=8), st.sampled_from(["<|>", "|", "ab"]))
def test_a_mark_is_found_wherever_blocks_divide_it(blocks: list[str], mark: str) -> None:
    parts = "".join("\0" if text is None else text for text in parted(blocks, mark))
    assert parts == "".join(blocks).replace(mark, "\0")


def test_a_separator_in_the_text_ends_a_document_when_asked() -> None:
    published = [document("one<|endoftext|>two<|endoftext|>")]
    reading = Reading(separator="<|endoftext|>")
    assert list(texts(published, None, reading)) == ["one", None, "two", None]
    assert "".join(text or "" for text in texts(published, "\n\n", reading)) == "one\n\ntwo\n\n"
    assert list(texts(published, None)) == ["one<|endoftext|>two<|endoftext|>"]


def test_what_a_user_should_know_is_counted() -> None:
    def noted(reading: Reading, *contents: str) -> list[str]:
        notes = Notes()
        list(texts([document(text, f"{n}.txt") for n, text in enumerate(contents)], None, reading, notes))
        return notes.sentences()

    assert noted(Reading(), "one\n", "two\n") == []
    [line] = noted(Reading(), "one\n", "two\r\nthree\r\n", "\r\n")
    assert "CRLF" in line
    assert "2 (first 1.txt)" in line
    [line] = noted(Reading(), "a<|endoftext|>b")
    assert "--separator '<|endoftext|>'" in line
    assert noted(Reading(separator="<|endoftext|>"), "a<|endoftext|>b") == []


def test_bad_documents_are_left_out_when_asked() -> None:
    mixed = [document("one"), Document("bad.txt", content=b"two\xff"), document("three")]
    with pytest.raises(BadText, match=r"bad.txt is not UTF-8 text: byte 0xff at offset 3"):
        list(texts(mixed, None))
    notes = Notes()
    assert list(texts(mixed, None, Reading(bad="skip"), notes)) == ["one", None, "three"]
    [line] = notes.sentences()
    assert "not UTF-8" in line
    assert "1 (first bad.txt)" in line


@given(st.lists(st.one_of(st.none(), st.text(max_size=6)), max_size=8), st.integers(1, 30))
def test_the_split_is_after_so_many_characters(stream: list[str | None], cut: int) -> None:
    whole = "".join(text or "" for text in stream)
    sides = list(split(stream, cut))
    assert "".join(text or "" for side, text in sides if side == "train") == whole[:cut]
    assert "".join(text or "" for side, text in sides if side == "validation") == whole[cut:]
    assert sum(text is None for _, text in sides) == stream.count(None)
    assert [side for side, _ in sides] == sorted(side for side, _ in sides)  # "train" comes first


PROSE = "Where there's a will,\n\n  there is a way;\t\n it's é漢 12 345! \u3000x\x1cy\n" * 9


@given(st.lists(st.integers(0, len(PROSE)), max_size=6), st.integers(1, 60))
def test_an_encoding_is_learned_from_the_same_words_whatever_the_size(places: Sequence[int], size: int) -> None:
    ends = [0, *sorted(places), len(PROSE)]
    blocks = [PROSE[a:b] for a, b in pairwise(ends)]
    parts = list(whole_words(blocks, size, 500))
    assert "".join(parts) == PROSE
    assert max(map(len, parts)) < size + 30
    assert BPETokenizer.train(parts, 280) == BPETokenizer.train([PROSE], 280)


def test_an_endless_word_is_cut() -> None:
    assert [len(part) for part in whole_words(["x" * 40, "x" * 40, "x y"], 10, 70)] == [80, 3]
