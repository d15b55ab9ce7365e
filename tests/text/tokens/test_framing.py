"""Every tokenizer frames texts, pairs and words as its files say, and knows its mask and its padding, if it has any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, processors
from tokenizers import Tokenizer as Backend

from tests.text.tokens.test_tokenizers import TOKENIZERS
from text.tokens.base import CharTokenizer, Tokenizer
from text.tokens.bpe import BPETokenizer
from text.tokens.load import load_tokenizer

TEXT = "It's the 1234 cats, they sat on the 56 mats.\n\n  And the rats -- all 789. Caf\u00e9 \u6f22\u5b57 \U0001f44d"
WORDS = ["It", "'s", "the", "1234", "cats", ",", "caf\u00e9", "\u6f22\u5b57", "\U0001f44d\U0001f3fd", "e\u0301"]
PLAIN = BPETokenizer.train([TEXT], 300).to_json()
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def roberta(folder: Path, **config: Any) -> Path:
    """A folder as RoBERTa's: vocab.json, merges.txt and what is said beside them."""
    folder.mkdir()
    model = json.loads(PLAIN)["model"]
    listed = [*ROBERTA[:4], *sorted(model["vocab"], key=model["vocab"].__getitem__), ROBERTA[4]]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(listed)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, model["merges"])) + "\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def modernbert(folder: Path) -> Path:
    """A folder as ModernBERT's: a byte-level tokenizer.json with BERT's special tokens."""
    backend = Backend.from_str(PLAIN)
    names = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
    backend.add_special_tokens([AddedToken(name, lstrip=name == "[MASK]", special=True) for name in names])
    ends = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=ends
    )
    folder.mkdir()
    backend.save(str(folder / "tokenizer.json"))
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
    (folder / "tokenizer_config.json").write_text(json.dumps(named | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


@pytest.mark.parametrize("file", ["vocab.json", "tokenizer.json"])
def test_robertas_texts_and_pairs_are_those_of_transformers(file: str, tmp_path: Path) -> None:
    from transformers import RobertaTokenizerFast

    mask = AddedToken("<mask>", lstrip=True, special=True)  # as in the tokenizer.json that is published
    theirs = RobertaTokenizerFast.from_pretrained(roberta(tmp_path / "m"), mask_token=mask)
    if file == "tokenizer.json":
        theirs.save_pretrained(tmp_path / "m")
    ours = load_tokenizer(tmp_path / "m")
    assert ours.encode(TEXT).tolist() == theirs(TEXT, add_special_tokens=False)["input_ids"]
    assert ours.encode_framed(TEXT).ids.tolist() == theirs(TEXT)["input_ids"]
    assert ours.encode_framed(TEXT, "the cats").ids.tolist() == theirs(TEXT, "the cats")["input_ids"]
    assert not ours.encode_framed(TEXT, "the cats").types.any(), "one type of tokens"
    marked = "The cats <mask> on the <mask>."
    assert ours.encode_marked(marked).ids.tolist() == theirs(marked)["input_ids"]
    assert ours.frame == ((0,), (2,))
    assert (ours.mask, ours.pad, ours.bos, ours.eos) == (theirs.mask_token_id, 1, 0, 2)
    assert theirs.decode(ours.encode(TEXT)) == ours.decode(ours.encode(TEXT)) == TEXT


def test_modernberts_texts_and_pairs_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    theirs, ours = AutoTokenizer.from_pretrained(modernbert(tmp_path / "m")), load_tokenizer(tmp_path / "m")
    assert isinstance(ours, BPETokenizer)
    assert ours.encode_framed(TEXT).ids.tolist() == theirs(TEXT)["input_ids"]
    pair, both = ours.encode_framed(TEXT, "the cats"), theirs(TEXT, "the cats", return_token_type_ids=True)
    assert (pair.ids.tolist(), pair.types.tolist()) == (both["input_ids"], both["token_type_ids"])
    marked = "The cats [MASK] on the [MASK]."
    assert ours.encode_marked(marked).ids.tolist() == theirs(marked)["input_ids"]
    assert (ours.mask, ours.pad) == (theirs.mask_token_id, theirs.pad_token_id)


def test_mask_and_padding_are_known_by_common_names_where_no_file_names_them(tmp_path: Path) -> None:
    folder = modernbert(tmp_path / "m")
    named = load_tokenizer(folder)
    (folder / "tokenizer_config.json").unlink()
    assert (load_tokenizer(folder).mask, load_tokenizer(folder).pad) == (named.mask, named.pad)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_without_special_tokens_frames_nothing(name: str) -> None:
    tokenizer, text = TOKENIZERS[name], "a a" if name == "char" else TEXT
    if name == "wordpiece":
        assert tokenizer.mask is not None
        return
    assert tokenizer.mask is None
    assert tokenizer.frame == ((), ())
    for framed in (tokenizer.encode_framed(text), tokenizer.encode_marked(text)):
        assert framed.ids.tolist() == tokenizer.encode(text).tolist()
        assert framed.types.tolist() == [0] * len(framed.ids)
    with pytest.raises(ValueError, match="special tokens"):
        tokenizer.encode_framed(text, text)


def words_of(tokenizer: Tokenizer, words: list[str]) -> list[str]:
    """What the tokens of each word decode to."""
    ids, numbers = tokenizer.encode_words(words)
    assert (ids.dtype, numbers.dtype) == (np.int64, np.int64)
    assert numbers.tolist() == sorted(numbers.tolist()) or -1 in numbers
    return [tokenizer.decode(ids[numbers == number]).strip() for number in range(len(words))]


@pytest.mark.parametrize("name", ["byte", "bpe", "sentencepiece"])
def test_the_tokens_of_a_word_are_its_own(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    assert words_of(tokenizer, WORDS) == WORDS
    ids, _ = tokenizer.encode_words(WORDS)
    assert ids.tolist() == tokenizer.encode(" ".join(WORDS)).tolist(), "as the text itself"


@pytest.mark.parametrize("make", [roberta, modernbert])
def test_the_tokens_of_a_word_are_its_own_in_a_frame(make: Any, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make(tmp_path / "m"))
    assert words_of(tokenizer, WORDS) == WORDS
    ids, numbers = tokenizer.encode_words(WORDS)
    assert ids.tolist() == tokenizer.encode_framed(" ".join(WORDS)).ids.tolist()
    assert numbers[0] == numbers[-1] == -1


def test_words_of_characters_have_a_space_between_them_only_where_the_vocabulary_has_one() -> None:
    spaced, residues = CharTokenizer("abc "), CharTokenizer("ACDEFGHIKLMNPQRSTVWY")
    ids, numbers = spaced.encode_words(["ab", "c"])
    assert spaced.decode(ids) == "ab c"
    assert numbers.tolist() == [0, 0, -1, 1]
    ids, numbers = residues.encode_words(list("MKV"))
    assert residues.decode(ids) == "MKV"
    assert numbers.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_empty_words_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="there are none"):
        TOKENIZERS[name].encode_words([])
    with pytest.raises(ValueError, match="word 2 of 3 is empty"):
        TOKENIZERS[name].encode_words(["a", "", "a"])


def test_a_roberta_without_its_special_tokens_is_refused(tmp_path: Path) -> None:
    folder = roberta(tmp_path / "m")
    listed = json.loads((folder / "vocab.json").read_text())
    del listed["<mask>"]
    (folder / "vocab.json").write_text(json.dumps(listed))
    with pytest.raises(ValueError, match="must hold <mask>"):
        load_tokenizer(folder)
