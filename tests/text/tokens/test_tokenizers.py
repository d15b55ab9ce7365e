"""Round trips, streaming, the unknown character, published ids, and tokenizers on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.tokens.base import ByteTokenizer, CharTokenizer, StreamingDecoder, Tokenizer, UnknownCharacterError
from text.tokens.bpe import BPETokenizer
from text.tokens.load import load_tokenizer
from text.tokens.wordpiece import WordPieceTokenizer

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
PROSE = ["To be, or not to be, that is the question:\n  Whether 'tis nobler in the mind to suffer\n" * 20]
CHARACTERS = "aé\n漢👋\U0010ffff "


def sentencepiece() -> BPETokenizer:
    """A small tokenizer of Llama 2's family: first space, spaces as U+2581, bytes for what is unknown."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, trainers

    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = [word for text in PROSE for word in text.split()]
    backend.train_from_iterator(words, trainers.BpeTrainer(vocab_size=400, special_tokens=special))
    described = json.loads(backend.to_str())
    described["added_tokens"] = described["added_tokens"][:3]  # bytes are tokens like others
    return BPETokenizer(tokenizers.Tokenizer.from_str(json.dumps(described)))


TOKENIZERS = {
    "char": CharTokenizer(CHARACTERS),
    "byte": ByteTokenizer(),
    "bpe": BPETokenizer.train(PROSE, 300),
    "sentencepiece": sentencepiece(),
    "wordpiece": WordPieceTokenizer.train(PROSE, 150),
}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]


def library(tokenizer: Tokenizer) -> Any:
    """The same tokenizer in the `tokenizers` library."""
    from tokenizers import Tokenizer as Backend

    return Backend.from_str(tokenizer.to_json())


def streamed(tokenizer: Tokenizer, ids: list[int]) -> str:
    decoder = StreamingDecoder(tokenizer)
    return "".join(map(decoder, ids)) + decoder.finish()


@given(UNICODE)
def test_any_unicode_returns_from_bytes_and_bpe(text: str) -> None:
    for name in ("byte", "bpe"):
        ids = TOKENIZERS[name].encode(text)
        assert ids.dtype == np.int64
        assert TOKENIZERS[name].decode(ids) == text
        assert streamed(TOKENIZERS[name], ids.tolist()) == text


@given(UNICODE.filter(lambda text: "\u2581" not in text))
def test_any_unicode_returns_from_sentencepiece(text: str) -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text(CHARACTERS, max_size=60))
def test_char_returns_its_own_alphabet(text: str) -> None:
    tokenizer = TOKENIZERS["char"]
    ids = tokenizer.encode(text)
    assert ids.tolist() == [sorted(CHARACTERS).index(character) for character in text]
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
def test_streaming_equals_decoding_for_any_ids(name: str, data: st.DataObject) -> None:
    """Any ids, not only those of a text: half characters and invalid bytes come out the same."""
    tokenizer = TOKENIZERS[name]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    assert streamed(tokenizer, ids) == tokenizer.decode(ids)


@given(st.lists(st.integers(0, TOKENIZERS["bpe"].vocab_size - 1), max_size=40))
def test_bpe_decodes_as_the_library_does(ids: list[int]) -> None:
    tokenizer = TOKENIZERS["bpe"]
    assert tokenizer.decode(ids) == library(tokenizer).decode(ids, skip_special_tokens=False)


@given(UNICODE)
def test_sentencepiece_decodes_text_as_the_library_does(text: str) -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    ids = tokenizer.encode(text).tolist()
    assert tokenizer.decode(ids) == library(tokenizer).decode(ids, skip_special_tokens=False)


def test_streaming_waits_for_the_whole_character() -> None:
    decoder = StreamingDecoder(ByteTokenizer())
    assert [decoder(byte) for byte in "é👋".encode()] == ["", "é", "", "", "", "👋"]
    assert decoder.finish() == ""
    decoder = StreamingDecoder(ByteTokenizer())
    assert decoder(0xF0) == ""
    assert decoder.finish() == "\ufffd"


def test_an_unknown_character_is_named_with_its_position() -> None:
    tokenizer = CharTokenizer("ab\n")
    with pytest.raises(UnknownCharacterError, match=r"'é' \(U\+00E9\) at position 3"):
        tokenizer.encode("ab\néaé")


def test_the_position_of_an_unknown_character_counts_from_the_start_of_a_long_text() -> None:
    with pytest.raises(UnknownCharacterError) as caught:
        CharTokenizer("a").encode("a" * 1_500_000 + "\U0010ffff" + "a" * 10)
    assert caught.value.position == 1_500_000
    assert caught.value.character == "\U0010ffff"


def test_char_learns_the_sorted_characters_of_all_texts() -> None:
    assert CharTokenizer.train(["ba", "", "👋a"]).characters == "ab👋"


@pytest.mark.parametrize("characters", ["", "a\ud800"])
def test_char_refuses_what_cannot_be_an_alphabet(characters: str) -> None:
    with pytest.raises(ValueError, match="characters must"):
        CharTokenizer(characters)


def test_a_lone_surrogate_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"ud800|U\+D800"):
        tokenizer.encode("\ud800")


def test_an_id_outside_the_vocabulary_is_refused(tokenizer: Tokenizer) -> None:
    for token in (-1, tokenizer.vocab_size):
        with pytest.raises(ValueError, match=f"token id must be in 0..{tokenizer.vocab_size - 1}, got {token}"):
            tokenizer.decode([token])
        with pytest.raises(ValueError, match="token id must be in"):
            StreamingDecoder(tokenizer)(token)


def test_a_saved_tokenizer_loads_equal(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "run")
    loaded = load_tokenizer(tmp_path / "run")
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["tokenizer.json"]
    assert type(loaded) is type(tokenizer)
    assert loaded == tokenizer
    assert (loaded.vocab_size, loaded.eos, loaded.bos) == (tokenizer.vocab_size, tokenizer.eos, tokenizer.bos)
    assert loaded.encode("aé漢 a").tolist() == tokenizer.encode("aé漢 a").tolist()


def test_different_tokenizers_have_different_fingerprints() -> None:
    others = [*TOKENIZERS.values(), CharTokenizer("ab"), BPETokenizer.train(PROSE, 310)]
    assert len({tokenizer.fingerprint for tokenizer in others}) == len(others)
    assert CharTokenizer("ab") != CharTokenizer("abc")


def test_bpe_is_trained_to_size_and_the_same_each_time() -> None:
    tokenizer = BPETokenizer.train(PROSE, 300)
    assert tokenizer.vocab_size == 300
    assert tokenizer == TOKENIZERS["bpe"]
    assert tokenizer.piece(tokenizer.eos) == b"<|endoftext|>"
    assert len(tokenizer.encode(PROSE[0])) < len(PROSE[0]) / 2
    with pytest.raises(ValueError, match="vocab_size must be at least 257"):
        BPETokenizer.train(PROSE, 256)


def test_text_never_becomes_a_special_token() -> None:
    tokenizer = TOKENIZERS["bpe"]
    ids = tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.eos not in ids
    assert tokenizer.decode(ids) == "a<|endoftext|>b"


def test_sentencepiece_keeps_its_ends() -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    assert tokenizer.piece(tokenizer.bos) == b"<s>"
    assert tokenizer.piece(tokenizer.eos) == b"</s>"


def test_truncation_set_in_a_file_is_ignored(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(TOKENIZERS["bpe"].to_json())
    backend.enable_truncation(5)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.decode(tokenizer.encode(PROSE[0])) == PROSE[0]


def test_gpt2_gives_the_published_ids(data_root: Path) -> None:
    tokenizer = load_tokenizer(data_root / "gpt2-bpe")
    assert (tokenizer.vocab_size, tokenizer.eos) == (50257, 50256)
    cases = json.loads((data_root / "gpt2-bpe" / "expected_ids.json").read_text(encoding="utf-8"))
    assert len(cases) == 19
    for case in cases:
        assert tokenizer.encode(case["text"]).tolist() == case["ids"], case["text"]
        assert tokenizer.decode(case["ids"]) == case["text"]


def test_gpt2_loads_the_same_under_both_names_and_after_saving(data_root: Path, tmp_path: Path) -> None:
    source = data_root / "gpt2-bpe"
    (tmp_path / "vocab.json").write_bytes((source / "encoder.json").read_bytes())
    (tmp_path / "merges.txt").write_bytes((source / "vocab.bpe").read_bytes())
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer == load_tokenizer(source)
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path / "tokenizer.json") == tokenizer


@pytest.mark.parametrize(
    "content",
    [
        "",
        "To be, or not to be",
        "[]",
        "{}",
        '{"tokenizer": "char"}',
        '{"model": {"type": "WordPiece"}}',
        "\xff",
    ],
)
def test_a_foreign_file_is_refused_by_name(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a readable tokenizer"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_of_another_family_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    Backend(models.WordLevel({"a": 0}, "a")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="got WordLevel"):
        load_tokenizer(tmp_path)


def test_a_byte_level_vocabulary_without_a_byte_is_refused(tmp_path: Path) -> None:
    described = json.loads(TOKENIZERS["bpe"].to_json())
    described["model"]["vocab"]["renamed"] = described["model"]["vocab"].pop("!")
    described["model"]["merges"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(ValueError, match="33 is missing"):
        load_tokenizer(tmp_path)


def test_damaged_gpt2_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{", encoding="utf-8")
    (tmp_path / "merges.txt").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab\.json and .*merges\.txt"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("path", [".", "missing", "missing/tokenizer.json"])
def test_a_missing_tokenizer_says_what_is_accepted(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tokenizer in .*tokenizer\.json, or vocab\.json and merges\.txt"):
        load_tokenizer(tmp_path / path)
