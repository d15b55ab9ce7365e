"""WordPiece gives the ids of transformers for any text, from any of its files, and can be learned from a text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.corpus.encode import encoded
from text.tokens.bpe import BPETokenizer
from text.tokens.load import load_tokenizer, public_json
from text.tokens.wordpiece import WordPieceTokenizer

PROSE = [
    "It's the 12,345 cats: they sat on the mat, weren't they? \"Unbelievable!\" (said the rat) -- the caf\u00e9's "
    "na\u00efve na\u00efvet\u00e9, \u6f22\u5b57 and \u043c\u0438\u0440. " * 20
]
DIFFICULT = [
    *PROSE,
    "",
    " \t\n ",
    "UNBELIEVABLE  CAF\u00c9S\r\nE\u0301t\u00e9 \u0130stanbul stra\u00dfe",
    "\u6f22\u5b57\u5728\u9019\u88e1 \u3072\u3089\u304c\u306a \uff28\uff29 \U0001f44d\U0001f3fd",
    "a\u00a0b\u2003c\u200bd\u00ade\ufefff\x00g\x07h\ufffdi",
    "x" * 99 + " " + "x" * 101 + " " + "cat" * 40,
    "don't--stop...now #hash @at a_b [x] {y} $5 50% \u201cquoted\u201d \u2014 \u2026",
    "##ing the##cat un##believ",
    "e\u0301\u0301\u0327 \u0b95\u0bcd\u0bb7 \u0915\u094d\u0937 \u1112\u1161\u11ab",
]
LEARNED = {case: WordPieceTokenizer.train(PROSE, 220, case=case) for case in ("lower", "kept")}
NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def vocabulary(folder: Path, case: str = "lower", **config: Any) -> Path:
    """A folder with a vocab.txt, and perhaps a tokenizer_config.json."""
    folder.mkdir(exist_ok=True)
    listed = json.loads(LEARNED[case].to_json())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(listed, key=listed.__getitem__)) + "\n", encoding="utf-8")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


# The ids of transformers


@pytest.mark.parametrize(
    ("case", "config"),
    [
        ("lower", {}),
        ("lower", {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}),
        ("lower", {"do_lower_case": True, "strip_accents": False}),
        ("lower", {"tokenize_chinese_chars": False, "tokenizer_class": "DistilBertTokenizer"}),
        ("kept", {"do_lower_case": False}),
        ("kept", {"do_lower_case": False, "strip_accents": True}),
    ],
)
@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json"])
def test_ids_equal_those_of_transformers(case: str, config: dict[str, Any], file: str, tmp_path: Path) -> None:
    from transformers import BertTokenizerFast

    theirs = BertTokenizerFast.from_pretrained(vocabulary(tmp_path / "m", case, **config))
    if file == "tokenizer.json":
        theirs.save_pretrained(tmp_path / "m")
    ours = load_tokenizer(tmp_path / "m")
    assert isinstance(ours, WordPieceTokenizer)
    for text in DIFFICULT:
        assert ours.encode(text).tolist() == theirs(text, add_special_tokens=False)["input_ids"], text
        framed, whole = ours.encode_framed(text), theirs(text)
        assert (framed.ids.tolist(), framed.types.tolist()) == (whole["input_ids"], whole["token_type_ids"])
    pair, both = ours.encode_framed(DIFFICULT[3], DIFFICULT[4]), theirs(DIFFICULT[3], DIFFICULT[4])
    assert (pair.ids.tolist(), pair.types.tolist()) == (both["input_ids"], both["token_type_ids"])
    named = theirs.mask_token_id, theirs.pad_token_id, theirs.unk_token_id, theirs.sep_token_id
    assert (ours.mask, ours.pad, ours.unk, ours.eos) == named
    assert ours.vocab_size == len(theirs)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(lambda text: "[" not in text))
def test_ids_of_any_unicode_equal_those_of_the_library(text: str) -> None:
    from tokenizers import Tokenizer as Backend

    for ours in LEARNED.values():
        assert ours.encode(text).tolist() == Backend.from_str(ours.to_json()).encode(text).ids[1:-1]


def test_names_of_special_tokens_are_text_unless_they_are_asked_for(tmp_path: Path) -> None:
    from transformers import BertTokenizerFast

    ours, text = LEARNED["lower"], "the [MASK] sat [SEP] on [MASK]."
    theirs = BertTokenizerFast.from_pretrained(vocabulary(tmp_path / "m"))
    assert ours.mask not in ours.encode(text)
    assert ours.encode_framed(text).ids.tolist().count(ours.eos) == 1
    assert ours.encode_marked(text).ids.tolist() == theirs(text)["input_ids"]
    assert ours.encode_marked(text).ids.tolist().count(ours.mask) == 2
    assert ours.mask not in ours.encode(text), "asking once changes nothing"


# Words


def test_words_have_the_tokens_and_numbers_that_transformers_gives_them(tmp_path: Path) -> None:
    from transformers import BertTokenizerFast

    theirs = BertTokenizerFast.from_pretrained(vocabulary(tmp_path / "m"))
    for text in filter(str.strip, DIFFICULT):
        words = [word for word in text.split() if theirs(word, add_special_tokens=False)["input_ids"]]
        expected = theirs(words, is_split_into_words=True)
        ids, numbers = LEARNED["lower"].encode_words(words)
        assert ids.tolist() == expected["input_ids"]
        assert numbers.tolist() == [-1 if number is None else number for number in expected.word_ids()]


def test_a_word_of_which_cleaning_leaves_nothing_is_unknown() -> None:
    ours = LEARNED["lower"]
    ids, numbers = ours.encode_words(["\u200b", "the", "\x00", "\x01", "cats", "\u200b"])
    plain, _ = ours.encode_words(["the", "cats"])
    assert numbers[0] == numbers[-1] == -1
    assert [*dict.fromkeys(numbers.tolist())] == [-1, 0, 1, 2, 3, 4, 5]
    assert [token for token in ids.tolist() if token != ours.unk] == plain.tolist()


# Learned


def test_a_learned_vocabulary_begins_with_the_special_tokens_and_covers_its_text() -> None:
    for case, ours in LEARNED.items():
        listed = json.loads(ours.to_json())["model"]["vocab"]
        assert sorted(listed, key=listed.__getitem__)[:5] == NAMES
        assert ours.special == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
        assert ours.vocab_size <= 220
        ids = ours.encode(PROSE[0])
        assert ours.unk not in ids
        assert len(ids) < len(PROSE[0]) / 2, "tokens of several characters"
        assert any(name != name.lower() for name in listed if name not in NAMES) == (case == "kept")


def test_decoding_joins_words_and_puts_no_space_before_a_closing_mark() -> None:
    text = "they sat on the mat: the rat, they sat!"
    for ours in LEARNED.values():
        ids = ours.encode(text)
        assert ours.decode(ids) == text
        assert ours.decode(ours.encode_framed("the cats").ids) == "[CLS] the cats [SEP]"
        inner = ours.encode("matcatrat")
        assert len(inner) > 1
        assert ours.decode(inner) == "matcatrat"


def test_learning_twice_gives_the_same_vocabulary_in_any_process() -> None:
    program = "import sys\nfrom tests.text.tokens.test_wordpiece import LEARNED\nprint(LEARNED['kept'].fingerprint)"
    prints = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True) for _ in range(2)]
    assert {made.stdout.strip() for made in prints} == {LEARNED["kept"].fingerprint}, prints


def test_a_long_text_in_blocks_has_the_ids_of_the_whole() -> None:
    text = " ".join(PROSE * 30)
    blocks = [text[start : start + 1000] for start in range(0, len(text), 1000)]
    ours = LEARNED["lower"]
    ids = [token for part in encoded(ours, [*blocks, None, "the cats"]) for token in part.tolist()]
    assert ids == [*ours.encode(text).tolist(), ours.eos, *ours.encode("the cats").tolist()]


# On disk


def test_it_comes_back_from_its_file_and_transformers_reads_that(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    for case, ours in LEARNED.items():
        ours.save(tmp_path)
        again = load_tokenizer(tmp_path)
        assert again == ours
        assert again.special == ours.special
        theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
        assert theirs(PROSE[0])["input_ids"] == ours.encode_framed(PROSE[0]).ids.tolist()
        assert public_json(ours) == ours.to_json()
        assert repr(again) == f"WordPieceTokenizer(vocab_size={ours.vocab_size})", case


def test_special_tokens_of_other_names_are_those_of_the_files(tmp_path: Path) -> None:
    folder = vocabulary(tmp_path / "m", mask_token="the", cls_token={"content": "cats"}, sep_token="sat")
    ours = load_tokenizer(folder)
    assert ours.decode(ours.encode_framed("on").ids) == "cats on sat"
    assert ours.piece(ours.mask or 0) == b" the"


@pytest.mark.parametrize(
    ("text", "config", "message"),
    [
        ("[UNK]\n[CLS]\n[PAD]\n[MASK]\na\n", {}, r"vocab.txt lacks the special token \[SEP\]"),
        ("a\nb\n", {}, r"vocab.txt lacks the special token"),
        ("[UNK]\n", {"tokenizer_class": "MPNetTokenizer"}, "vocab.txt of MPNetTokenizer do not say how text is split"),
        (
            "\n".join(NAMES),
            {"added_tokens_decoder": {"9": {"content": "<new>", "special": True}}},
            "<new> has the id 9 beside .*vocab.txt",
        ),
    ],
)
def test_a_vocabulary_that_cannot_be_read_is_refused(
    text: str, config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "vocab.txt").write_text(text)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path)


def test_what_is_no_wordpiece_is_refused() -> None:
    with pytest.raises(ValueError, match="must continue words with ##, got a BPE"):
        WordPieceTokenizer(BPETokenizer.train([""], 257)._backend)
    with pytest.raises(ValueError, match="vocab_size must be at least 100"):
        WordPieceTokenizer.train(PROSE, 99)
