"""Tokens on disk: those of the whole text, made once, atomically, and in little memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from text.corpus import load as module
from text.corpus.load import Corpus, load_corpus
from text.tokens.base import ByteTokenizer, CharTokenizer, Ids, Tokenizer, UnknownCharacterError
from text.tokens.bpe import BPETokenizer

PROSE = "Where there's a will,\nthere is a way;  \n\n  it's é漢👋 12 345!\n" * 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    (tmp_path / "prose.txt").write_text(PROSE, encoding="utf-8")
    return tmp_path / "prose.txt"


def kept(root: Path) -> list[Path]:
    """The folders of tokens in the cache."""
    return [file.parent for file in (root / "cache" / "text").glob("*/tokens.bin")]


def made(root: Path) -> dict[Path, int]:
    """When the tokens in the cache were written: what is read again keeps its time."""
    return {folder: (folder / "tokens.bin").stat().st_mtime_ns for folder in kept(root)}


@pytest.mark.parametrize(
    "tokenizer", [CharTokenizer(PROSE), ByteTokenizer(), BPETokenizer.train([PROSE], 300)], ids=repr
)
@pytest.mark.parametrize("validation", [0.1, 0.25])
def test_both_parts_are_the_tokens_of_their_texts(
    tokenizer: Tokenizer, validation: float, prose: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("text.corpus.documents.BLOCK", 50)  # many blocks
    corpus = load_corpus(prose, tokenizer, validation=validation, root=root)
    cut = int((1 - validation) * len(PROSE))
    for tokens, size, text in (
        (corpus.train, corpus.train_size, PROSE[:cut]),
        (corpus.validation, corpus.val_size, PROSE[cut:]),
    ):
        np.testing.assert_array_equal(tokens, tokenizer.encode(text))
        assert (size.tokens, size.chars, size.bytes) == (len(tokens), len(text), len(text.encode()))
        assert tokens.dtype == np.uint16
        assert not tokens.flags.writeable
    assert len(kept(root)) == 1


def test_a_large_document_gets_the_tokens_that_it_gets_whole(
    prose: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tokenizer = BPETokenizer.train([PROSE], 300)
    for name, size in (("WINDOW", 300), ("OVERLAP", 100)):
        monkeypatch.setattr(f"text.corpus.encode.{name}", size)
    corpus = load_corpus(prose, tokenizer, root=root)
    cut = int(0.9 * len(PROSE))
    assert corpus.train.tolist() == tokenizer.encode(PROSE[:cut]).tolist()
    assert corpus.validation.tolist() == tokenizer.encode(PROSE[cut:]).tolist()
    assert capfd.readouterr().err == ""


def test_char_learns_the_whole_text_and_bpe_only_the_training_part(tmp_path: Path, root: Path) -> None:
    (tmp_path / "a.txt").write_text("ab" * 900 + "XYZXYZXYZ" * 20, encoding="utf-8")
    char = load_corpus(tmp_path / "a.txt", root=root, validation=0.1)
    assert char.tokenizer == CharTokenizer("abXYZ")
    bpe = load_corpus(tmp_path / "a.txt", "bpe", vocab_size=270, root=root, validation=0.1)
    assert b"abab" in bpe.tokenizer.pieces
    assert b"XY" not in bpe.tokenizer.pieces
    assert bpe.tokenizer.decode(bpe.validation) == ("ab" * 900 + "XYZXYZXYZ" * 20)[int(0.9 * 1980) :]


def test_shakespeare_is_cut_where_nanogpt_cuts_it(data_root: Path, root: Path) -> None:
    (root / "shakespeare").mkdir(parents=True)
    (root / "shakespeare" / "input.txt").write_bytes((data_root / "shakespeare" / "input.txt").read_bytes())
    corpus = load_corpus("shakespeare", root=root)
    assert corpus.tokenizer.vocab_size == 65
    assert (len(corpus.train), len(corpus.validation)) == (1_003_854, 111_540)
    assert corpus.tokenizer.decode(corpus.validation[:20]) == "?\n\nGREMIO:\nGood morr"
    gpt2 = load_corpus("shakespeare", data_root / "gpt2-bpe", root=root)
    assert (len(gpt2.train), len(gpt2.validation)) == (301_966, 36_059)  # as nanoGPT's prepare.py says
    assert gpt2.val_size.chars == 111_540


def test_bits_are_nats_over_the_text_itself(prose: Path, root: Path) -> None:
    corpus = load_corpus(prose, "byte", root=root)
    bits = corpus.bits(loss=np.log(2))  # one bit per token, and a token is a byte
    assert bits["bits_per_byte"] == pytest.approx(1)
    assert bits["bits_per_char"] == pytest.approx(corpus.val_size.bytes / corpus.val_size.chars)
    assert bits["bits_per_char"] > 1


def test_documents_are_one_text_with_an_end_or_a_blank_line_between(tmp_path: Path, root: Path) -> None:
    (tmp_path / "texts").mkdir()
    for name, text in (("a", "one two"), ("b", "three"), ("c", "four five six")):
        (tmp_path / "texts" / f"{name}.txt").write_text(text)
    byte = load_corpus(tmp_path / "texts", "byte", root=root, validation=0.5)
    whole = "one two\n\nthree\n\nfour five six"
    assert byte.tokenizer.decode(byte.train) + byte.tokenizer.decode(byte.validation) == whole
    assert len(byte.train) == len(whole) // 2
    tokenizer = BPETokenizer.train(["one"], 257)
    bpe = load_corpus(tmp_path / "texts", tokenizer, root=root, validation=0.5)
    together = tokenizer.decode([*bpe.train, *bpe.validation])
    assert together == "one two<|endoftext|>three<|endoftext|>four five six"
    assert bpe.train_size.chars + bpe.val_size.chars == 25  # ends of text are no text
    assert bpe.train_size.tokens + bpe.val_size.tokens == 27


def test_a_large_vocabulary_takes_four_bytes_a_token(tmp_path: Path, root: Path) -> None:
    alphabet = [chr(code) for code in range(0x10000, 0x10000 + 70_000)]
    (tmp_path / "a.txt").write_text("".join(alphabet), encoding="utf-8")
    corpus = load_corpus(tmp_path / "a.txt", root=root)
    assert corpus.train.dtype == np.uint32
    assert corpus.validation[-1] == 69_999


def test_a_second_call_reads_what_the_first_one_kept(prose: Path, root: Path) -> None:
    for tokenizer in ("char", "bpe", "byte"):
        first, before = load_corpus(prose, tokenizer, root=root), made(root)
        again = load_corpus(prose, tokenizer, root=root)
        saved = load_corpus(prose, first.tokenizer, root=root)  # as evaluation does, with the run's own
        for other in (again, saved):
            np.testing.assert_array_equal(first.train, other.train)
            assert (first.tokenizer, first.val_size) == (other.tokenizer, other.val_size)
        assert made(root) == before
    assert len(kept(root)) == 3


def test_other_content_tokenizer_or_validation_is_another_corpus(prose: Path, root: Path) -> None:
    load_corpus(prose, root=root)
    load_corpus(prose, root=root, validation=0.2)
    load_corpus(prose, CharTokenizer(PROSE + "Q"), root=root)
    prose.write_text(PROSE + "more", encoding="utf-8")
    load_corpus(prose, root=root)
    assert len(kept(root)) == 4
    before = made(root)
    copy = prose.with_name("copy.md")
    copy.write_text(PROSE + "more", encoding="utf-8")
    load_corpus(copy, root=root)  # the same content under another name
    assert made(root) == before


def damage_cut(folder: Path) -> None:
    os.truncate(folder / "tokens.bin", 100)


def damage_bit(folder: Path) -> None:
    tokens = bytearray((folder / "tokens.bin").read_bytes())
    tokens[7] ^= 1
    (folder / "tokens.bin").write_bytes(tokens)


def damage_gone(folder: Path) -> None:
    (folder / "tokens.bin").unlink()


def damage_meta(folder: Path) -> None:
    (folder / "meta.json").write_text('{"train": {}}')


@pytest.mark.parametrize("damage", [damage_cut, damage_bit, damage_gone, damage_meta])
def test_damaged_tokens_are_made_again(damage: Callable[[Path], None], prose: Path, root: Path) -> None:
    before = np.array(load_corpus(prose, root=root).train)
    (folder,) = kept(root)
    damage(folder)
    np.testing.assert_array_equal(load_corpus(prose, root=root).train, before)
    repaired = made(root)
    np.testing.assert_array_equal(load_corpus(prose, root=root).train, before)
    assert made(root) == repaired
    assert kept(root) == [folder]


def test_a_damaged_learned_tokenizer_is_learned_again(prose: Path, root: Path) -> None:
    before = load_corpus(prose, root=root).tokenizer
    (file,) = (root / "cache" / "text").glob("*/tokenizer.json")
    file.write_text("{")
    assert load_corpus(prose, root=root).tokenizer == before


class FullDisk(ByteTokenizer):
    """Fails as writing its tokens to a full disk does."""

    def encode(self, text: str) -> Ids:
        raise OSError(28, "No space left on device")


def test_an_interrupted_call_leaves_nothing(prose: Path, root: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        load_corpus(prose, FullDisk(), root=root)
    assert list((root / "cache" / "text").iterdir()) == []
    assert len(load_corpus(prose, "byte", root=root).train) > 0


def start(text: Path, root: Path) -> subprocess.Popen[bytes]:
    """Another process that loads a corpus and prints the sum of its tokens."""
    code = (
        "import sys; from pathlib import Path; from text.corpus.load import load_corpus; "
        "corpus = load_corpus(sys.argv[1], 'byte', root=Path(sys.argv[2])); "
        "print(int(corpus.train.sum()) + int(corpus.validation.sum()))"
    )
    command = [sys.executable, "-c", code, str(text), str(root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(module.__file__).parents[2])


def test_processes_that_start_together_agree(prose: Path, root: Path) -> None:
    prose.write_text(PROSE * 300, encoding="utf-8")
    running = [start(prose, root) for _ in range(2)]
    sums = [int(process.communicate(timeout=60)[0]) for process in running]
    assert sums == [sum((PROSE * 300).encode())] * 2
    assert len(kept(root)) == 1
    assert not list((root / "cache" / "text").glob(".*"))


def test_what_a_killed_process_leaves_is_not_mistaken_for_a_corpus(prose: Path, root: Path) -> None:
    prose.write_text(PROSE * 6000, encoding="utf-8")
    process = start(prose, root)
    while not list((root / "cache" / "text").glob(".*.part/tokens.bin")) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert kept(root) == list((root / "cache" / "text").glob(".*.part"))
    corpus = load_corpus(prose, "byte", root=root)
    assert len(corpus.train) + len(corpus.validation) == len((PROSE * 6000).encode())


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_memory_does_not_grow_with_the_text(tokenizer: str, tmp_path: Path, root: Path) -> None:
    with (tmp_path / "large.txt").open("w", encoding="utf-8") as file:
        for _ in range(800):
            file.write(PROSE * 20)
    assert (tmp_path / "large.txt").stat().st_size > 50_000_000
    load_corpus("pydoc", tokenizer, root=root)  # imports and tables are not the text's
    tracemalloc.start()
    corpus = load_corpus(tmp_path / "large.txt", tokenizer, root=root)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(corpus.train) > 40_000_000
    assert peak < 30_000_000


@pytest.mark.parametrize("repeats", [0, 100, 199])
def test_an_unknown_character_is_named_with_its_position_in_the_text(repeats: int, prose: Path, root: Path) -> None:
    prose.write_text(PROSE * repeats + "Ж" + PROSE * (199 - repeats), encoding="utf-8")
    with pytest.raises(UnknownCharacterError, match=r"'Ж' \(U\+0416\)") as error:
        load_corpus(prose, CharTokenizer(PROSE), root=root)
    assert error.value.position == len(PROSE) * repeats


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation": 0.0}, "validation .* 0.0"),
        ({"validation": 1.5}, "validation .* 1.5"),
        ({"tokenizer": "words"}, "tokenizer .* char, byte, bpe, wordpiece, gpt2 .* 'words'"),
        ({"tokenizer": "bpe", "vocab_size": 10}, "vocab_size .* 10"),
        ({"tokenizer": "char", "vocab_size": 300}, "vocab_size .* 300 with char"),
    ],
)
def test_bad_choices_are_refused(arguments: dict[str, object], message: str, prose: Path, root: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_corpus(prose, root=root, **arguments)


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe"])
@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"bad\.txt is empty"),
        (b"a", r"bad\.txt .* 1 characters"),
        (b"long enough, but \xff in it", r"bad\.txt .* 0xff at offset 17"),
    ],
)
def test_bad_texts_are_refused(raw: bytes, message: str, tokenizer: str, tmp_path: Path, root: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        load_corpus(tmp_path / "bad.txt", tokenizer, root=root)
    assert kept(root) == []


def test_missing_files_of_gpt2_are_named_with_an_alternative(
    prose: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ValueError, match=r"gpt2-bpe/encoder\.json .*char, byte or bpe"):
        load_corpus(prose, "gpt2", root=root)


def test_gpt2_is_found_in_the_data_root(prose: Path, root: Path, data_root: Path) -> None:
    root.mkdir()
    (root / "gpt2-bpe").symlink_to(data_root / "gpt2-bpe")
    corpus = load_corpus(prose, "gpt2", root=root)
    assert isinstance(corpus, Corpus)
    assert corpus.tokenizer.vocab_size == 50257
    assert corpus.tokenizer.decode(corpus.train) == PROSE[: int(0.9 * len(PROSE))]


def test_the_cache_records_where_a_corpus_came_from(prose: Path, root: Path) -> None:
    load_corpus(prose, root=root)
    (folder,) = kept(root)
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    assert meta["source"] == str(prose)
    assert meta["train"]["tokens"] == int(0.9 * len(PROSE))
