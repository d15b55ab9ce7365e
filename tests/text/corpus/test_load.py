"""Tokens on disk: those of the whole text, made once, whole or not at all, and in little memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from text.corpus import load as module
from text.corpus.load import Corpus, load_corpus
from text.tokens.base import ByteTokenizer, CharTokenizer, Tokenizer, UnknownCharacterError
from text.tokens.bpe import BPETokenizer

PROSE = "Where there's a will,\nthere is a way;  \n\n  it's é漢👋 12 345!\n" * 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    (tmp_path / "prose.txt").write_text(PROSE, encoding="utf-8")
    return tmp_path / "prose.txt"


@pytest.fixture
def tokenised(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows by one whenever a text is tokenised."""
    calls: list[Path] = []
    original = module._tokenise

    def counted(folder: Path, *rest: object) -> None:
        calls.append(folder)
        original(folder, *rest)

    monkeypatch.setattr(module, "_tokenise", counted)
    return calls


def kept(root: Path) -> list[Path]:
    """The folders of tokens in the cache."""
    return [file.parent for file in (root / "cache" / "text").glob("*/tokens.bin")]


@pytest.mark.parametrize(
    "tokenizer", [CharTokenizer(PROSE), ByteTokenizer(), BPETokenizer.train([PROSE], 300)], ids=repr
)
@pytest.mark.parametrize("validation", [0.1, 0.25])
def test_both_parts_are_the_tokens_of_their_texts(
    tokenizer: Tokenizer, validation: float, prose: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("text.corpus.documents.pieces.__defaults__", (50, 1000))  # many pieces
    found = load_corpus(prose, tokenizer, validation=validation, root=root)
    cut = int((1 - validation) * len(PROSE))
    for tokens, size, text in (
        (found.train, found.train_size, PROSE[:cut]),
        (found.validation, found.val_size, PROSE[cut:]),
    ):
        np.testing.assert_array_equal(tokens, tokenizer.encode(text))
        assert (size.tokens, size.chars, size.bytes) == (len(tokens), len(text), len(text.encode()))
        assert tokens.dtype == np.uint16
        assert not tokens.flags.writeable
    assert len(kept(root)) == 1


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
    found = load_corpus("shakespeare", root=root)
    assert found.tokenizer.vocab_size == 65
    assert (len(found.train), len(found.validation)) == (1_003_854, 111_540)
    assert found.tokenizer.decode(found.validation[:20]) == "?\n\nGREMIO:\nGood morr"
    gpt2 = load_corpus("shakespeare", data_root / "gpt2-bpe", root=root)
    assert (len(gpt2.train), len(gpt2.validation)) == (301_966, 36_059)  # as nanoGPT's prepare.py says
    assert gpt2.val_size.chars == 111_540


def test_bits_are_nats_over_the_text_itself(prose: Path, root: Path) -> None:
    found = load_corpus(prose, "byte", root=root)
    bits = found.bits(loss=np.log(2))  # one bit per token, and a token is a byte
    assert bits["bits_per_byte"] == pytest.approx(1)
    assert bits["bits_per_char"] == pytest.approx(found.val_size.bytes / found.val_size.chars)
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
    found = load_corpus(tmp_path / "a.txt", root=root)
    assert found.train.dtype == np.uint32
    assert found.validation[-1] == 69_999


def test_a_second_call_reads_what_the_first_one_kept(prose: Path, root: Path, tokenised: list[Path]) -> None:
    for tokenizer in ("char", "bpe", "byte"):
        first = load_corpus(prose, tokenizer, root=root)
        again = load_corpus(prose, tokenizer, root=root)
        saved = load_corpus(prose, first.tokenizer, root=root)  # as evaluation does, with the run's own
        for other in (again, saved):
            np.testing.assert_array_equal(first.train, other.train)
            assert (first.tokenizer, first.val_size) == (other.tokenizer, other.val_size)
    assert len(tokenised) == 3


def test_other_content_tokenizer_or_validation_is_another_corpus(
    prose: Path, root: Path, tokenised: list[Path]
) -> None:
    load_corpus(prose, root=root)
    load_corpus(prose, root=root, validation=0.2)
    load_corpus(prose, CharTokenizer(PROSE + "Q"), root=root)
    prose.write_text(PROSE + "more", encoding="utf-8")
    load_corpus(prose, root=root)
    assert len(tokenised) == 4
    copy = prose.with_name("copy.md")
    copy.write_text(PROSE + "more", encoding="utf-8")
    load_corpus(copy, root=root)  # the same content under another name
    assert len(tokenised) == 4


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
def test_damaged_tokens_are_made_again(damage: object, prose: Path, root: Path, tokenised: list[Path]) -> None:
    before = np.array(load_corpus(prose, root=root).train)
    (folder,) = kept(root)
    damage(folder)
    np.testing.assert_array_equal(load_corpus(prose, root=root).train, before)
    np.testing.assert_array_equal(load_corpus(prose, root=root).train, before)
    assert len(tokenised) == 2
    assert kept(root) == [folder]


def test_a_damaged_learned_tokenizer_is_learned_again(prose: Path, root: Path) -> None:
    before = load_corpus(prose, root=root).tokenizer
    (file,) = (root / "cache" / "text").glob("*/tokenizer.json")
    file.write_text("{")
    assert load_corpus(prose, root=root).tokenizer == before


def test_an_interrupted_call_leaves_nothing(prose: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            load_corpus(prose, "byte", root=root)
    assert list((root / "cache" / "text").iterdir()) == []
    assert len(load_corpus(prose, "byte", root=root).train) > 0


def start(text: Path, root: Path) -> subprocess.Popen[bytes]:
    """Another process that loads a corpus and prints the sum of its tokens."""
    code = (
        "import sys; from pathlib import Path; from text.corpus.load import load_corpus; "
        "found = load_corpus(sys.argv[1], 'byte', root=Path(sys.argv[2])); "
        "print(int(found.train.sum()) + int(found.validation.sum()))"
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


def test_a_killed_process_leaves_nothing_that_is_taken_for_whole(prose: Path, root: Path) -> None:
    prose.write_text(PROSE * 6000, encoding="utf-8")
    process = start(prose, root)
    deadline = time.monotonic() + 60
    while not list((root / "cache" / "text").glob(".*.part/tokens.bin")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert kept(root) == list((root / "cache" / "text").glob(".*.part"))
    found = load_corpus(prose, "byte", root=root)
    assert len(found.train) + len(found.validation) == len((PROSE * 6000).encode())


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_memory_does_not_grow_with_the_text(tokenizer: str, tmp_path: Path, root: Path) -> None:
    with (tmp_path / "large.txt").open("w", encoding="utf-8") as file:
        for _ in range(800):
            file.write(PROSE * 20)
    assert (tmp_path / "large.txt").stat().st_size > 50_000_000
    load_corpus("pydoc", tokenizer, root=root)  # imports and tables are not the text's
    tracemalloc.start()
    found = load_corpus(tmp_path / "large.txt", tokenizer, root=root)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.train) > 40_000_000
    assert peak < 30_000_000


@pytest.mark.parametrize("repeats", [0, 100, 199])
def test_a_character_that_a_given_tokenizer_lacks_is_named_with_its_place(
    repeats: int, prose: Path, root: Path
) -> None:
    prose.write_text(PROSE * repeats + "Ж" + PROSE * (199 - repeats), encoding="utf-8")
    with pytest.raises(UnknownCharacterError, match=r"'Ж' \(U\+0416\)") as error:
        load_corpus(prose, CharTokenizer(PROSE), root=root)
    assert error.value.position == len(PROSE) * repeats


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"validation": 0.0}, "validation must be between 0 and 1, got 0.0"),
        ({"validation": 1.5}, "validation must be between 0 and 1, got 1.5"),
        ({"tokenizer": "words"}, "tokenizer must be char, byte, bpe, gpt2 or the path of one, got 'words'"),
        ({"tokenizer": "bpe", "vocab_size": 10}, "vocab_size must be at least 257"),
        ({"tokenizer": "char", "vocab_size": 300}, "vocab_size is for the bpe tokenizer, got 300 with char"),
    ],
)
def test_bad_choices_are_refused(arguments: dict[str, object], sentence: str, prose: Path, root: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_corpus(prose, root=root, **arguments)


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe"])
@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "bad.txt is empty: there is no text to learn from"),
        (b"a", "bad.txt is too short to be split: it has 1 characters"),
        (b"long enough, but \xff in it", r"bad\.txt is not UTF-8 text: byte 0xff at offset 17"),
    ],
)
def test_bad_texts_are_refused(raw: bytes, sentence: str, tokenizer: str, tmp_path: Path, root: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(raw)
    with pytest.raises(ValueError, match=sentence):
        load_corpus(tmp_path / "bad.txt", tokenizer, root=root)
    assert kept(root) == []


def test_gpt2_is_named_in_full_when_its_files_are_missing(
    prose: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ValueError, match=r"gpt2-bpe/encoder\.json is missing .*take the char, byte or bpe"):
        load_corpus(prose, "gpt2", root=root)


def test_gpt2_is_found_in_the_data_root(prose: Path, root: Path, data_root: Path) -> None:
    root.mkdir()
    (root / "gpt2-bpe").symlink_to(data_root / "gpt2-bpe")
    found = load_corpus(prose, "gpt2", root=root)
    assert isinstance(found, Corpus)
    assert found.tokenizer.vocab_size == 50257
    assert found.tokenizer.decode(found.train) == PROSE[: int(0.9 * len(PROSE))]


def test_what_is_kept_says_where_it_came_from(prose: Path, root: Path) -> None:
    load_corpus(prose, root=root)
    (folder,) = kept(root)
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    assert meta["source"] == str(prose)
    assert meta["train"]["tokens"] == int(0.9 * len(PROSE))
