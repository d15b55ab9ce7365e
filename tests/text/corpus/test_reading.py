"""How a corpus is read: what is held out, where documents end, tables and compressed files, and what a user is told."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from text.corpus.documents import Reading
from text.corpus.load import load_corpus
from text.tokens.base import CharTokenizer
from text.tokens.bpe import BPETokenizer

PROSE = "Where there's a will,\nthere is a way;  \n\n  it's é漢👋 12 345!\n" * 60


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


def test_another_text_may_be_held_out(tmp_path: Path, root: Path) -> None:
    for name, text in (("train", "one two three" * 9), ("val", "fourX")):
        (tmp_path / f"{name}.txt").write_text(text)
    corpus = load_corpus(tmp_path / "train.txt", validation=str(tmp_path / "val.txt"), root=root)
    assert corpus.tokenizer == CharTokenizer("one two threefourX")
    assert corpus.tokenizer.decode(corpus.train) == "one two three" * 9
    assert corpus.tokenizer.decode(corpus.validation) == "fourX"
    bpe = load_corpus(tmp_path / "train.txt", "bpe", vocab_size=262, validation=str(tmp_path / "val.txt"), root=root)
    assert bpe.tokenizer.decode(bpe.validation) == "fourX"
    assert b"o" in bpe.tokenizer.pieces
    assert b"fo" not in bpe.tokenizer.pieces
    (tmp_path / "val.txt").write_text("five")
    again = load_corpus(tmp_path / "train.txt", validation=str(tmp_path / "val.txt"), root=root)
    assert again.tokenizer.decode(again.validation) == "five"


def test_the_whole_of_a_text_may_be_held_out(tmp_path: Path, root: Path) -> None:
    (tmp_path / "a.txt").write_text(PROSE, encoding="utf-8")
    corpus = load_corpus(tmp_path / "a.txt", "byte", validation=1.0, root=root)
    assert len(corpus.train) == corpus.train_size.tokens == 0
    assert corpus.tokenizer.decode(corpus.validation) == PROSE


def test_a_separator_becomes_the_end_of_a_text_as_in_transformers(tmp_path: Path, root: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from tokenizers import Tokenizer as Backend

    tokenizer = BPETokenizer.train([PROSE], 300)
    text = "one two<|endoftext|>\nthree<|endoftext|><|endoftext|>four"
    (tmp_path / "a.txt").write_text(text)
    reading = Reading(separator="<|endoftext|>")
    corpus = load_corpus(tmp_path / "a.txt", tokenizer, validation=1.0, reading=reading, root=root)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Backend.from_str(tokenizer.to_json()), eos_token="<|endoftext|>"
    )
    assert corpus.validation.tolist() == theirs(text)["input_ids"]
    assert corpus.val_size.chars == len(text) - 3 * len("<|endoftext|>")
    assert len(load_corpus(tmp_path / "a.txt", tokenizer, validation=1.0, root=root).validation) > len(
        corpus.validation
    )


def test_tables_marks_and_compression_give_the_same_tokens_as_plain_text(tmp_path: Path, root: Path) -> None:
    texts = ["Grüße,\n", "one two", "three"]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("\n\n".join(texts).encode()))
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbf" + "\n\n".join(texts).encode())
    (tmp_path / "d.txt").write_text("\n\n".join(texts), encoding="utf-8")
    corpora = [load_corpus(file, root=root) for file in sorted(tmp_path.glob("*.*"))]
    assert len({corpus.sha256 for corpus in corpora}) == 1
    assert len({corpus.tokenizer for corpus in corpora}) == 1


def test_what_is_to_know_about_a_text_is_said_every_time(
    tmp_path: Path, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n" * 9)
    (tmp_path / "b.txt").write_bytes(b"three\xff")
    for _ in range(2):
        corpus = load_corpus(tmp_path, "byte", reading=Reading(bad="skip"), root=root)
        first, second = capfd.readouterr().err.splitlines()
        assert "1 (first" in first
        assert "CRLF" in first
        assert "not UTF-8" in second
        assert corpus.val_size.bytes + corpus.train_size.bytes == 90
    (tmp_path / "a.txt").unlink()
    with pytest.raises(ValueError, match="0 characters; left out, because it is not UTF-8"):
        load_corpus(tmp_path, "byte", reading=Reading(bad="skip"), root=root)
