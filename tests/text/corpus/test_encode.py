"""A text in blocks gets the tokens that it gets whole, from every kind of tokenizer, in memory that does not grow."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.text.tokens.test_tokenizers import PROSE, TOKENIZERS
from text.corpus import encode
from text.corpus.encode import encoded
from text.tokens.base import CharTokenizer, Tokenizer, UnknownCharacterError
from text.tokens.bpe import BPETokenizer


def altered(**parts: object) -> BPETokenizer:
    """A byte-level tokenizer with parts of its description replaced."""
    from tokenizers import Tokenizer as Backend

    return BPETokenizer(Backend.from_str(json.dumps(json.loads(TOKENIZERS["bpe"].to_json()) | parts)))


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
SPLIT = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}
KINDS: dict[str, Tokenizer] = TOKENIZERS | {
    "words of Llama 3": altered(pre_tokenizer={"type": "Sequence", "pretokenizers": [SPLIT, BYTES]}),
    "no words": altered(pre_tokenizer=BYTES),
    "normalised": altered(normalizer={"type": "NFC"}, pre_tokenizer=BYTES),
    "trimmed": altered(post_processor=BYTES | {"use_regex": True}),
}


PIECES = [PROSE[0][:70], "  ", "\n", "\n\n", "be", "é漢👋🏽", "e\u0301", "12345", "'s", ".\r\n", "-" * 30]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("WINDOW", 90), ("OVERLAP", 40), ("TOGETHER", 250), ("LARGEST", 2000)):
        monkeypatch.setattr(encode, name, size)


def blocks(text: str, size: int = 37) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def tokens(tokenizer: Tokenizer, stream: Iterator[str | None]) -> list[int]:
    return [token for ids in encoded(tokenizer, stream) for token in ids.tolist()]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"char"}))
@given(st.lists(st.sampled_from(PIECES)))
def test_a_document_in_windows_gets_the_tokens_that_it_gets_whole(kind: str, pieces: list[str]) -> None:
    text = "".join(pieces)
    assert tokens(KINDS[kind], blocks(text)) == KINDS[kind].encode(text).tolist()


@pytest.mark.usefixtures("small")
def test_a_word_longer_than_windows_is_encoded_whole(capfd: pytest.CaptureFixture[str]) -> None:
    for text in ("a " + "to " * 5 + "x" * 1500 + " to be", "=" * 1900, " " * 700 + "be"):
        for tokenizer in (KINDS["bpe"], KINDS["no words"]):
            assert tokens(tokenizer, blocks(text)) == tokenizer.encode(text).tolist()
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("small")
def test_a_word_beyond_all_bounds_is_cut_and_that_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    bpe = BPETokenizer.train(["=" * 64] * 50, 264)  # tokens of 2, 4, ... 64 of them, which begin at another place
    text = "=" * 6001
    ids = tokens(bpe, blocks(text))
    assert bpe.decode(ids) == text
    assert "2,000 characters" in capfd.readouterr().err


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["bpe", "sentencepiece"])
def test_documents_are_encoded_by_themselves_with_their_end_between(kind: str) -> None:
    tokenizer, texts = KINDS[kind], ["to be", PROSE[0][:300], "\n", PROSE[0][7:200]]
    stream = iter([*blocks(texts[0]), None, *blocks(texts[1]), None, *blocks(texts[2]), None, *blocks(texts[3]), None])
    expected = [token for text in texts for token in [*tokenizer.encode(text).tolist(), tokenizer.eos]]
    assert tokens(tokenizer, stream) == expected


def test_an_unknown_character_is_named_by_its_place_in_the_whole() -> None:
    with pytest.raises(UnknownCharacterError) as error:
        list(encoded(CharTokenizer("ab"), iter(["ab", None, "ba", "aéa"]), position=100))
    assert error.value.position == 105


def test_what_is_encoded_at_once_does_not_grow_with_the_document() -> None:
    longest = 0

    class Watched(BPETokenizer):
        def encode_spans(self, texts):  # type: ignore[no-untyped-def]
            nonlocal longest
            longest = max(longest, sum(map(len, texts)))
            return super().encode_spans(texts)

    from tokenizers import Tokenizer as Backend

    for kind in ("bpe", "sentencepiece", "no words"):
        tokenizer = Watched(Backend.from_str(KINDS[kind].to_json()))
        count = sum(len(ids) for ids in encoded(tokenizer, blocks(PROSE[0] * 300, 1 << 18)))
        assert count > 50_000
        assert longest <= encode.TOGETHER + encode.WINDOW
    assert np.iinfo(np.int64).max > longest > encode.WINDOW
