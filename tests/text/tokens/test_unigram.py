"""Unigram tokenizers give the ids that transformers gives, and keep text and special tokens apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from text.corpus.encode import WINDOW, encoded
from text.tokens.base import StreamingDecoder
from text.tokens.bpe import BPETokenizer
from text.tokens.load import load_tokenizer, public_json
from text.tokens.unigram import UnigramTokenizer

DIFFICULT = [
    "It's 12,345.67 o'clock, I'm \"fine\" -- we've  been\there: they'll SEE.",
    "  leading, trailing and   inner   spaces  ",
    "tabs\tand\nnew\r\nlines\n\n",
    "\u00c9t\u00e9 \u6f22\u5b57 \u041c\u0438\u0440 \U0001f44d\U0001f3fd e\u0301 \ufb01n \u2460 \uff21\uff22",
    "zero\u200bwidth\u00a0no-break\u3000ideographic \ufeff",
    "{braces} <tags> [brackets] \\ ~ ^ ` \u2581 \u2581\u2581word",
    "https://a.b/c?d=e&f=1",
    "",
    " ",
    "a",
]
NAMED = ["Thank you <extra_id_0> me to your party <extra_id_1> week.", "<extra_id_9>", "ends</s> here<pad>", "a<unk>b"]
TRAINING = Path(__file__).parents[3] / "README.md"


def pieces() -> list[tuple[str, float]]:
    """A small vocabulary, learned."""
    backend = Backend(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator(TRAINING.read_text().splitlines(), trainer)
    return [(piece, score) for piece, score in json.loads(backend.to_str())["model"]["vocab"]]


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """transformers' tokenizer of a T5, its normaliser included, and its folder."""
    from transformers import T5Tokenizer

    theirs = T5Tokenizer(vocab=pieces(), extra_ids=10)
    theirs.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\u200b", " ")])
    folder = tmp_path_factory.mktemp("t5")
    theirs.save_pretrained(folder)
    return theirs, folder


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """One as the conversions of MarianMT have it: other ids, spaces split alone, a language code, no sentinels."""
    from transformers import PreTrainedTokenizerFast

    learned = [(piece, score) for piece, score in pieces() if not piece.startswith("<")]
    vocabulary = [("</s>", 0.0), ("<unk>", 0.0), *reversed(learned), (">>fra<<", 0.0), ("<pad>", 0.0)]
    backend = Backend(models.Unigram(vocabulary, unk_id=1))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 0)])
    backend.add_special_tokens(["</s>", "<unk>", ">>fra<<", "<pad>"])
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    theirs = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    folder = tmp_path_factory.mktemp("marian")
    theirs.save_pretrained(folder)
    return theirs, folder


def ours(folder: Path) -> UnigramTokenizer:
    tokenizer = load_tokenizer(folder)
    assert isinstance(tokenizer, UnigramTokenizer)
    return tokenizer


@pytest.mark.parametrize("text", [*DIFFICULT, *NAMED, ">>fra<< Good day."])
@pytest.mark.parametrize("family", ["t5", "marian"])
def test_inputs_have_the_ids_of_transformers(family, text, request):
    theirs, folder = request.getfixturevalue(family)
    tokenizer, expected = ours(folder), theirs(text).input_ids
    assert tokenizer.encode_marked(text).ids.tolist() == expected
    assert expected[-1] == tokenizer.eos
    if text in DIFFICULT:
        assert tokenizer.encode(text).tolist() == expected[:-1]


@pytest.mark.parametrize("text", DIFFICULT)
@pytest.mark.parametrize("family", ["t5", "marian"])
def test_text_is_decoded_as_transformers_does(family, text, request):
    theirs, folder = request.getfixturevalue(family)
    tokenizer = ours(folder)
    ids = tokenizer.encode(text)
    decoded = tokenizer.decode(ids)
    assert decoded == theirs.decode(ids, clean_up_tokenization_spaces=False)
    stream = StreamingDecoder(tokenizer)
    assert "".join([*map(stream, ids.tolist()), stream.finish()]) == decoded


def test_special_tokens_are_known(t5, marian):
    tokenizer, other = ours(t5[1]), ours(marian[1])
    assert (tokenizer.pad, tokenizer.eos, tokenizer.bos, tokenizer.stops) == (0, 1, None, (1,))
    assert tokenizer.sentinels == tuple(t5[0].convert_tokens_to_ids([f"<extra_id_{n}>" for n in range(10)]))
    assert tokenizer.vocab_size == len(t5[0])
    assert (other.eos, other.pad, other.sentinels) == (0, other.vocab_size - 1, ())


@pytest.mark.parametrize("text", NAMED)
def test_the_name_of_a_special_token_in_a_text_is_only_text(t5, text):
    tokenizer = ours(t5[1])
    special = {tokenizer.pad, tokenizer.eos, *tokenizer.sentinels}
    assert not special & set(tokenizer.encode(text).tolist())
    assert special & set(tokenizer.encode_marked(text).ids.tolist())


def test_other_special_tokens_are_those_that_the_files_name(t5, tmp_path):
    json_file = (t5[1] / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(json_file)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<extra_id_3>"}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 1}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.stops == (tokenizer.sentinels[3], 1)
    assert tokenizer.eos == tokenizer.sentinels[3]


def test_it_is_saved_and_read_back_as_other_tools_read_it(t5, tmp_path):
    theirs, folder = t5
    tokenizer = ours(folder)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again == tokenizer
    assert again.companions == tokenizer.companions
    assert Backend.from_str(public_json(tokenizer)).encode(DIFFICULT[0]).ids == theirs(DIFFICULT[0]).input_ids


def test_a_long_text_in_blocks_has_the_tokens_that_it_has_whole(t5):
    tokenizer = ours(t5[1])
    text = "\n".join(line for line in TRAINING.read_text().splitlines() * 20 if line)
    assert len(text) > 3 * WINDOW
    blocks = [text[start : start + 5000] for start in range(0, len(text), 5000)]
    parts = list(encoded(tokenizer, [*blocks, None, "another document"]))
    expected = [*tokenizer.encode(text), tokenizer.eos, *tokenizer.encode("another document")]
    assert np.concatenate(parts).tolist() == expected


def test_the_tokens_of_a_word_are_its_own(t5, marian):
    for _, folder in (t5, marian):
        tokenizer, words = ours(folder), ["It", "'s", "the", "words", ",", "twelve"]
        ids, numbers = tokenizer.encode_words(words)
        assert [tokenizer.decode(ids[numbers == number]).strip() for number in range(len(words))] == words
        assert ids.tolist() == [*tokenizer.encode(" ".join(words)), tokenizer.eos]
        assert numbers[-1] == -1


def test_what_is_not_a_unigram_tokenizer_is_refused():
    with pytest.raises(ValueError, match="a unigram tokenizer is needed, got BPE"):
        UnigramTokenizer(Backend.from_str(BPETokenizer.train(["some text"], 260).to_json()))


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("spiece.model", "has spiece.model .* tokenizer.json.*save_pretrained"),
        ("source.spm", "source.spm .* transformers.js"),
    ],
)
def test_files_of_sentencepiece_alone_are_refused_with_a_way_to_convert_them(tmp_path, file, sentence):
    (tmp_path / file).write_bytes(b"\x0a")
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(ValueError, match=sentence):
        load_tokenizer(tmp_path)


def test_a_lone_surrogate_is_refused(t5):
    for encode in (ours(t5[1]).encode, ours(t5[1]).encode_marked):
        with pytest.raises(ValueError, match="surrogates not allowed"):
            encode("\ud800")
