"""Cutting a text into pieces: nothing is lost, and no token is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from text.corpus.documents import decoded, parts, pieces, texts
from text.corpus.sources import Document, Source
from text.tokens.bpe import BPETokenizer

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O_SPLIT = LLAMA3_SPLIT.replace(r"[\r\n]*|", r"[\r\n/]*|")
TROUBLE = st.text(st.sampled_from(list("ab'st1 \n\r\t./é漢\u0301\u00a0\u2003\u200b\u2028½👋_")), max_size=60)


def split_by(pattern: str) -> BPETokenizer:
    """A byte-level tokenizer that splits text into words by `pattern`."""
    described = json.loads(BPETokenizer.train(["a"], 257).to_json())
    described["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ],
    }
    return BPETokenizer(Backend.from_str(json.dumps(described)))


def words(tokenizer: BPETokenizer, text: str) -> list[str]:
    """What the tokenizer splits a text into before any merge: if these are the same, so are the tokens."""
    return [word for word, _ in tokenizer._backend.pre_tokenizer.pre_tokenize_str(text)]


GPT2 = BPETokenizer.train(["a"], 257)
FAMILIES = {"gpt2": GPT2, "llama3": split_by(LLAMA3_SPLIT), "gpt4o": split_by(GPT4O_SPLIT)}


@pytest.mark.parametrize("family", FAMILIES)
@given(blocks=st.lists(TROUBLE, max_size=5), size=st.integers(1, 30))
def test_cuts_between_words_change_no_token(family: str, blocks: list[str], size: int) -> None:
    tokenizer = FAMILIES[family]
    assert tokenizer.cuts == "words"
    found = list(pieces(blocks, tokenizer.cuts, size))
    assert "".join(found) == "".join(blocks)
    assert [word for piece in found for word in words(tokenizer, piece)] == words(tokenizer, "".join(blocks))


def test_cuts_between_words_are_found() -> None:
    """The property above does not hold because nothing is ever cut."""
    text = "Now is the winter of our discontent\nMade glorious summer by this sun of York;\n\n  And all"
    found = list(pieces([text], "words", 12))
    assert len(found) > 5
    assert max(map(len, found)) <= 16
    lines = "one\ntwo\nthree\nfour\nfive\nsix\n"
    assert list(pieces([lines], "words", 10)) == ["one\ntwo\n", "three\n", "four\n", "five\nsix\n"]


def test_a_tokenizer_that_is_not_known_to_allow_cuts_gets_documents_whole() -> None:
    other = split_by(r"\w+")
    assert other.cuts == "nowhere"
    assert list(pieces(["one two ", "three"], "nowhere", 2)) == ["one two three"]


def test_anywhere_is_every_size_characters() -> None:
    assert list(pieces(["abcde", "fgh"], "anywhere", 3)) == ["abc", "def", "gh"]


def test_a_text_without_any_place_to_cut_is_cut_at_the_limit() -> None:
    found = list(pieces(["x" * 50] * 4, "words", 10, limit=100))
    assert [len(piece) for piece in found] == [100, 100]


@given(st.lists(st.one_of(st.none(), st.text(max_size=6)), max_size=8), st.integers(1, 30))
def test_parts_cut_after_so_many_characters(stream: list[str | None], cut: int) -> None:
    whole = "".join(text or "" for text in stream)
    sides = list(parts(stream, cut))
    assert "".join(text or "" for side, text in sides if side == "train") == whole[:cut]
    assert "".join(text or "" for side, text in sides if side == "validation") == whole[cut:]
    assert sum(text is None for _, text in sides) == stream.count(None)
    assert [side for side, _ in sides] == sorted(side for side, _ in sides)  # "train" comes first


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 7))
def test_blocks_may_cut_a_character(text: str, size: int) -> None:
    raw = text.encode()
    document = Document("it", lambda: iter([raw[i : i + size] for i in range(0, len(raw), size)]))
    assert "".join(decoded(document)) == text


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(
    ("raw", "byte", "offset"),
    [(b"abc\xe9def", "e9", 3), ("né".encode() + b"\xff", "ff", 3), ("漢".encode() + b"ab\xe6\xbc", "e6", 5)],
)
def test_the_first_byte_that_is_not_utf8_is_named(raw: bytes, byte: str, offset: int, size: int) -> None:
    def read() -> Iterator[bytes]:
        return iter([raw[i : i + size] for i in range(0, len(raw), size)])

    with pytest.raises(ValueError, match=f"my.txt is not UTF-8 text: byte 0x{byte} at offset {offset}$"):
        list(decoded(Document("my.txt", read)))


def test_the_separator_stands_between_documents_only() -> None:
    one, two = (Document(text, lambda text=text: iter([text.encode()])) for text in ("one", "two"))
    source = Source("both", lambda: iter([one, two]))
    assert list(texts(source)) == ["one", "\n\n", "two"]
    assert list(texts(source, separator=None)) == ["one", None, "two"]
