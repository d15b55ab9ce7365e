"""Sequences of different lengths: equal to plain lists; tokenizers learned from texts; tokens kept and found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from text.corpus.sequences import (
    KEPT,
    NOTHING,
    Ragged,
    choose_tokenizer,
    encode_all,
    learn_bpe,
    special_ids,
)
from text.tokens.base import ByteTokenizer, CharTokenizer
from text.tokens.bpe import BPETokenizer
from text.tokens.load import load_tokenizer

SEQUENCES = st.lists(st.lists(st.integers(0, 99), max_size=9), min_size=1, max_size=12)
TEXTS = ["a house by the sea", "ein Haus am Meer", "漢字 and 👋", "</s> is text here, and <pad> too"]


@given(SEQUENCES, st.lists(st.integers(100, 109), max_size=3), st.lists(st.integers(110, 119), max_size=3))
def test_held_end_to_end_they_are_the_same_lists(
    sequences: list[list[int]], before: list[int], after: list[int]
) -> None:
    ragged = Ragged.of(sequences)
    assert [ragged[row].tolist() for row in range(len(ragged))] == sequences
    assert ragged.lengths.tolist() == [*map(len, sequences)]
    wrapped, cut = ragged.wrapped(before, after), ragged.cut(4)
    assert [wrapped[row].tolist() for row in range(len(wrapped))] == [before + each + after for each in sequences]
    assert [cut[row].tolist() for row in range(len(cut))] == [each[:4] for each in sequences]


@given(SEQUENCES, st.integers(1, 8), st.data())
def test_padding_is_behind_and_only_there(sequences: list[list[int]], least: int, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.integers(NOTHING, len(sequences) - 1), min_size=1, max_size=9)))
    chosen = [[-7] if row == NOTHING else sequences[row] for row in rows.tolist()]
    padded, lengths = Ragged.of(sequences).padded(rows, -7, least)
    width = padded.shape[1]
    assert padded.dtype == lengths.dtype == torch.int64
    assert lengths.tolist() == [*map(len, chosen)]
    assert padded.tolist() == [each + [-7] * (width - len(each)) for each in chosen]
    assert width == max(least, *map(len, chosen))


def test_a_learned_encoding_has_special_tokens_that_text_cannot_write(tmp_path: Path) -> None:
    tokenizer = learn_bpe(TEXTS * 20, 400)
    assert special_ids(tokenizer) == (0, 1, 2, tokenizer.vocab_size)
    assert tokenizer.mask == 3
    assert (tokenizer.bos, tokenizer.eos, tokenizer.stops) == (1, 2, (2,))
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.encode(text).min() > 2
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again == tokenizer
    assert special_ids(again) == special_ids(tokenizer)


def test_transformers_reads_the_same_special_tokens(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    own = learn_bpe(TEXTS * 20, 400)
    own.save(tmp_path)
    public = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert (public.pad_token_id, public.bos_token_id, public.eos_token_id) == (0, 1, 2)
    assert public(TEXTS[0], add_special_tokens=False)["input_ids"] == own.encode(TEXTS[0]).tolist()


def test_missing_special_tokens_follow_the_vocabulary() -> None:
    assert special_ids(ByteTokenizer()) == (256, 257, 258, 259)
    gpt_like = BPETokenizer.train(TEXTS, 300)  # it ends texts with token 0
    size = gpt_like.vocab_size
    assert special_ids(gpt_like) == (size, size + 1, 0, size + 2)


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_what_is_learned_is_learned_once(kind: str, tmp_path: Path) -> None:
    first = choose_tokenizer(kind, TEXTS, "these", 300, tmp_path)
    assert choose_tokenizer(kind, iter(()), "these", 300, tmp_path) == first  # nothing is read again
    assert choose_tokenizer(kind, [text[:9] for text in TEXTS], "others", 300, tmp_path) != first
    assert choose_tokenizer(first, [], "", root=tmp_path) is first
    first.save(tmp_path / "saved")
    assert choose_tokenizer(tmp_path / "saved", [], "") == first
    with pytest.raises(ValueError, match="tokenizer must be bpe, char, byte, gpt2 or the path of one, got 'bqe'"):
        choose_tokenizer("bqe", [], "")
    with pytest.raises(ValueError, match="vocab_size must be at least 260"):
        choose_tokenizer("bpe", TEXTS, "small", 258, tmp_path)


@pytest.mark.parametrize("tokenizer", [learn_bpe(TEXTS, 300), CharTokenizer.train(TEXTS), ByteTokenizer()])
def test_many_texts_get_the_tokens_of_each(tokenizer: BPETokenizer | CharTokenizer, tmp_path: Path) -> None:
    texts = [text[: 1 + number % 14] for number, text in enumerate(TEXTS * (KEPT // 3))]
    for _ in ("made", "found again"):
        found = encode_all(tokenizer, texts, before=[7], after=[8, 9], root=tmp_path)
        for row in (0, 1, 2, 3, len(texts) - 1):
            assert found[row].tolist() == [7, *tokenizer.encode(texts[row]).tolist(), 8, 9]
    [kept] = (tmp_path / "cache" / "text").glob("*/tokens.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    again = encode_all(tokenizer, texts, before=[7], after=[8, 9], root=tmp_path)
    np.testing.assert_array_equal(again.values, found.values)
    changed = encode_all(tokenizer, [*texts[:-1], texts[0]], root=tmp_path)
    assert changed[len(texts) - 1].tolist() == tokenizer.encode(texts[0]).tolist()


def test_what_is_too_long_is_refused_or_cut(capfd: pytest.CaptureFixture[str]) -> None:
    texts = ["short", "much longer", "longest of all"]
    with pytest.raises(ValueError, match="sentence 2 has 11 tokens, 9 fit into 10 positions .* 2 of 3 are too long"):
        encode_all(ByteTokenizer(), texts, after=[256], longest=10, name="sentence")
    found = encode_all(ByteTokenizer(), texts, after=[256], longest=10, too_long="truncate", name="sentence")
    assert [bytes(found[row][:-1].tolist()).decode() for row in range(3)] == ["short", "much long", "longest o"]
    assert {int(found[row][-1]) for row in range(3)} == {256}
    assert "2 of 3 sequences (sentence) are cut to 9 tokens" in capfd.readouterr().err
    encode_all(ByteTokenizer(), texts, after=[256], longest=15)


def test_an_unknown_character_is_named_with_its_text() -> None:
    with pytest.raises(ValueError, match=r"sentence 3: the character 'c' \(U\+0063\) at position 1"):
        encode_all(CharTokenizer("ab"), ["ab", "ba", "ac"], name="sentence")
