"""Texts in shards of tokens: the same tokens as in one piece, the same windows, made again only where they must be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.training.command import parse
from core.training.order import ROUND, interleaved
from tests.text.processes import TINY
from text import tokenize as command
from text.config import EvaluateConfig, LanguageModellingConfig
from text.corpus.load import load_corpus
from text.corpus.shards import PROGRESS, RECORD, Joined, Mixture, TokenFolder, cut, text_hash, token_folders
from text.corpus.windows import TrainingWindows, validation_batches
from text.models.gpt import GPTConfig
from text.presets import PRESETS
from text.tasks.configs import CONFIGS
from text.tasks.language_modelling import LanguageModelling
from text.tasks.texts import corpus_of
from text.tokenize import tokenize
from text.tokens.base import ByteTokenizer
from text.train import train
from text.trained import load

ROOT = Path(__file__).parents[3]
WORDS = "the quick brown fox jumps over a lazy dog while seven wise owls watch from älder trees".split()


def prose(words: int, seed: int = 0) -> str:
    """Words in lines, some of them with several spaces."""
    chosen = np.random.default_rng(seed).integers(0, len(WORDS), words)
    return "".join(
        WORDS[word] + ("\n\n" if place % 50 == 49 else "  " if place % 17 == 16 else " ")
        for place, word in enumerate(chosen)
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path / "data"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Short documents and a long one."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, words in enumerate((30, 2000, 90, 10, 60)):
        (folder / f"{number}.txt").write_text(prose(words, number), encoding="utf-8")
    return folder


def made(source: Path, out: Path, *options: str, tokenizer: str = "byte") -> Path:
    words = ["--tokenizer", tokenizer, "--shard-chars", "1500", "--processes", "1"]
    tokenize([str(source), "--out", str(out), *words, *options])
    return out


def tokens(folder: Path) -> np.ndarray[Any, Any]:
    return TokenFolder.open(folder, folder.parent / "hashes").tokens[:]


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.glob("shard-*.bin"))}


@given(st.lists(st.one_of(st.none(), st.text("ab \n", min_size=1, max_size=30))), st.integers(1, 40))
def test_pieces_are_the_text_and_no_word_is_cut(blocks: list[str | None], size: int) -> None:
    def joined(blocks: Sequence[str | None]) -> str:
        return "".join("\xff" if block is None else block for block in blocks)

    pieces = [*cut(iter(blocks), size)]
    assert joined([block for piece in pieces for block in piece]) == joined(blocks)
    for piece, after in pairwise(pieces):
        end, begin = joined(piece)[-1], joined(after)[0]
        assert end == "\xff" or (not end.isspace() and begin.isspace())
    assert all(
        text_hash(piece) == text_hash([*joined(piece).replace("\xff", "")]) for piece in pieces if None not in piece
    )


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_shards_hold_the_tokens_of_the_whole_text(source: Path, tmp_path: Path, kind: str) -> None:
    """Whatever a shard begins and ends with; a bpe has an end of text between documents."""
    folder = made(source, tmp_path / "tokens", *(["--bpe-size", "300"] if kind == "bpe" else []), tokenizer=kind)
    opened = TokenFolder.open(folder, tmp_path / "hashes")
    assert len(opened.shards) > 4
    whole = load_corpus(source, opened.tokenizer, validation=1.0)
    assert np.array_equal(opened.tokens[:], whole.validation)
    assert dict(opened.size_from(0, opened.tokenizer)) == vars(whole.val_size)
    assert (opened.tokenizer.eos is None) == (kind == "byte")


def test_what_is_held_out_is_measured(source: Path, tmp_path: Path) -> None:
    """The last of the tokens, from the beginning of a document on, where one begins there; its letters are counted."""
    folder = made(source, tmp_path / "tokens", "--bpe-size", "300", tokenizer="bpe")
    own = TokenFolder.open(folder, tmp_path / "hashes").tokenizer
    for fraction in (0.02, 0.3, 0.6):
        corpus = corpus_of(str(folder), own, fraction, command.Reading())
        assert len(corpus.train) + len(corpus.validation) == len(tokens(folder))
        text = own.decode([token for token in corpus.validation[:] if token != own.eos])
        assert (corpus.val_size.chars, corpus.val_size.bytes) == (len(text), len(text.encode()))
        assert corpus.val_size.tokens == len(corpus.validation)
        assert int(tokens(folder)[len(corpus.train) - 1]) == own.eos or fraction == 0.02
    other = corpus_of(str(folder), own, str(source / "3.txt"), command.Reading())
    assert own.decode(other.validation[:].tolist()) == (source / "3.txt").read_text("utf-8")
    assert len(other.train) == len(tokens(folder))


LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)


@given(LENGTHS, st.data())
def test_several_arrays_are_one(lengths: list[int], data: st.DataObject) -> None:
    whole = np.arange(sum(lengths), dtype=np.uint16)
    joined = Joined(np.split(whole, np.cumsum(lengths)[:-1]))
    start, stop = (data.draw(st.integers(0, len(whole) + 2)) for _ in range(2))
    assert np.array_equal(joined[start:stop], whole[start:stop])
    part = joined.between(start, stop)
    assert np.array_equal(part[:], whole[start:stop])
    assert len(part) == len(whole[start:stop])
    assert np.array_equal(np.asarray(joined, np.int32), whole)
    assert joined[start:stop].dtype == whole.dtype


@pytest.mark.parametrize("order", ["shuffled", "random"])
def test_windows_of_shards_are_those_of_one_text(order: Any) -> None:
    """Bit for bit, in the batches of one process, then two, then one again; the held-out windows too."""
    whole = np.arange(1000, dtype=np.uint16)
    joined = Joined(np.split(whole, [1, 300, 301, 777]))
    one, several = (TrainingWindows(text, 16, 12, seed=3, order=order) for text in (whole, joined))
    for step, world in ((0, 1), (6, 2), (7, 2), (100, 1)):
        [expected] = one.batch(step)
        parts = [several.batch(step, rank, world)[0] for rank in range(world)]
        for side in (0, 1):
            assert torch.equal(torch.cat([part[side] for part in parts]), expected[side])
    for a, b in zip(validation_batches(whole, 16, 3), validation_batches(joined, 16, 3), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=4), st.integers(0, 3 * ROUND), st.integers(1, 300))
def test_sources_are_interleaved_in_their_shares_from_any_place_on(
    weights: list[float], first: int, count: int
) -> None:
    chosen, before = interleaved(1, first, count, weights)
    all_of_it, _ = interleaved(1, 0, first + count, weights)
    assert np.array_equal(chosen, all_of_it[first:])
    assert np.array_equal(before, np.bincount(all_of_it[:first], minlength=len(weights)))
    a_round, _ = interleaved(1, ROUND, ROUND, weights)
    shares = np.bincount(a_round, minlength=len(weights)) / ROUND
    assert np.abs(shares - np.array(weights) / sum(weights)).max() <= 1 / ROUND


@pytest.mark.parametrize("order", ["shuffled", "random"])
def test_a_mixture_draws_each_text_as_if_it_were_alone(order: Any) -> None:
    """Every window of a text once before any twice; the same for one process, two, and one."""
    texts = np.arange(0, 400, dtype=np.uint16), np.arange(1000, 1200, dtype=np.uint16)
    windows = TrainingWindows(Mixture(texts, (3.0, 1.0)), 10, 40, seed=5, order=order)
    assert windows.items == 39 + 19
    taken = torch.cat([windows.batch(step)[0][0] for step in range(30)])
    second = (taken[:, 0] >= 1000).double().mean()
    assert second == pytest.approx(0.25, abs=0.05)
    if order == "shuffled":
        epoch = taken[taken[:, 0] < 1000][:39]
        assert len({*epoch.flatten().tolist()}) == 390
    for step in (7, 29):
        ranks = [windows.batch(step, rank, 2, 2) for rank in range(2)]
        rows = [rank[micro][0] for micro in range(2) for rank in ranks]
        assert torch.equal(torch.cat(rows), windows.batch(step)[0][0])


def test_a_run_reads_weighted_folders(source: Path, tmp_path: Path) -> None:
    folders = tuple(str(made(source / f"{number}.txt", tmp_path / f"tokens{number}")) for number in (1, 4))
    config = LanguageModellingConfig(
        steps=2, data=folders, data_weights=(1.0, 3.0), validation=0.2, model=GPTConfig(context=16)
    )
    task = LanguageModelling.prepare(config)
    assert isinstance(task.corpus.train, Mixture)
    assert task.corpus.tokenizer == ByteTokenizer()
    assert task.config.model.vocab_size == 256
    assert task.order(1, (0, 1, 2), 0.0)[1][0].shape == (16, 16)  # type: ignore[arg-type]
    for settings, message in (
        ({"data_weights": (1.0,)}, "must be positive, one for each of 2 data"),
        ({"data_weights": (1.0, 1e-9)}, "weights must be above 0, and above 1/4096 of their sum"),
        ({"tokenizer": "gpt2x"}, "holds tokens of another tokenizer than the one asked for, 'gpt2x'"),
        ({"data": (folders[0], str(source))}, "data names tokens, .*, and a text"),
        ({"data": (str(source), str(source))}, "data_weights needs tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            LanguageModelling.prepare(LanguageModellingConfig(**{**vars(config), **settings})).order(0, (0, 1, 1), 0.0)  # type: ignore[arg-type]


def test_a_run_on_shards_is_evaluated_on_what_they_held_out(source: Path, tmp_path: Path) -> None:
    folder, out = made(source, tmp_path / "tokens"), tmp_path / "run"
    words = [*TINY, "--data", str(folder), "--validation", "0.2", "--steps", "2", "--out", str(out)]
    figures = train(parse(CONFIGS, PRESETS, words))
    _, trained = evaluate_trained(out)
    assert trained == pytest.approx(figures)
    (source / "0.txt").write_text("something else")
    made(source, folder)
    with pytest.raises(ValueError, match="is not the text that .* was trained on, or has changed"):
        train(parse(CONFIGS, PRESETS, ["--out", str(out), "--resume", "--steps", "4"]))


def evaluate_trained(out: Path) -> tuple[str, dict[str, float]]:
    return LanguageModelling.evaluate_trained(load(out), out, EvaluateConfig())


def test_a_shard_that_is_missing_cut_or_changed_is_named_and_made_again(source: Path, tmp_path: Path) -> None:
    folder = made(source, tmp_path / "tokens")
    whole, file = files(folder), folder / "shard-00002.bin"

    def damage(how: str) -> str:
        content = file.read_bytes()
        file.unlink() if how == "missing" else file.write_bytes(content[:-1] if how == "holds" else content[::-1])
        with pytest.raises(ValueError, match=how) as error:
            corpus_of(str(folder), ByteTokenizer(), 0.1, command.Reading())
        return str(error.value)

    for how in ("missing", "holds", "damaged"):
        assert str(file) in damage(how)
        made(source, folder)
        again = files(folder)
        assert {name: content for name, (content, _) in again.items()} == {n: c for n, (c, _) in whole.items()}
        assert {name for name in whole if again[name] != whole[name]} == {file.name}
        whole = again


def test_what_was_finished_when_it_stopped_is_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, folder = files(made(source, tmp_path / "whole")), tmp_path / "tokens"
    write = command.write_shard

    def fail(folder: Path, number: int, *more: Any) -> Any:
        if number == 3:
            raise KeyboardInterrupt
        return write(folder, number, *more)

    with monkeypatch.context() as patch:
        patch.setattr(command, "write_shard", fail)
        with pytest.raises(KeyboardInterrupt):
            made(source, folder)
    before = files(folder)
    assert len(before) == 3
    assert token_folders(str(folder)) == [folder]
    with pytest.raises(ValueError, match="is not finished: text.tokenize, called as before, goes on"):
        tokens(folder)
    with (folder / PROGRESS).open("a") as file:
        file.write('{"name": "sha')  # killed while writing
    (folder / ".shard-00004.bin.0123.part").write_text("half")
    with pytest.raises(ValueError, match="was made with shard_chars = 1500, not 99"):
        made(source, folder, "--shard-chars", "99")
    (source / "4.txt").write_text("other words at the end of it")
    made(source, folder)
    after = files(folder)
    assert {name: after[name] for name in before} == before
    assert after.keys() <= whole.keys()
    assert tokens(folder).astype(np.uint8).tobytes().endswith(b"other words at the end of it")
    assert {path.suffix for path in folder.iterdir()} == {".bin", ".json"}


def test_an_hf_set_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = pytest.importorskip("datasets.config", reason="the datasets library is not installed")
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = tmp_path / "rows"
    rows.mkdir()
    lines = [json.dumps({"n": number, "text": prose(40, number)}) for number in range(30)]
    (rows / "train.jsonl").write_text("\n".join(lines))
    folder = made(Path(f"hf:{rows}"), tmp_path / "tokens", "--bpe-size", "300", tokenizer="bpe")
    opened = TokenFolder.open(folder, tmp_path / "hashes")
    texts = opened.tokenizer.decode(opened.tokens[:].tolist()).split(
        opened.tokenizer.pieces[opened.tokenizer.eos or 0].decode()
    )
    assert texts == [prose(40, number) for number in range(30)]
    assert not [*(tmp_path / "cache").rglob("*.arrow")]  # which loading it would have left


def test_bad_input_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for words, message in (
        (["--tokenizer", "byte", "--out", "x"], "name SOURCE: python -m text.tokenize"),
        ([str(source), "--out", "x"], "name --tokenizer"),
        ([str(source), "--tokenizer", "byte"], "name --out"),
        ([str(source), "--tokenizer", "char", "--out", str(tmp_path / "x")], "tokenizer must be gpt2, byte, bpe"),
        ([str(source), "--tokenizer", "byte", "--out", str(tmp_path / "full")], "is not empty; take a new folder"),
        ([str(source), "--tokenizer", "byte", "--out", "x", "--bpe-size", "9"], "--bpe-size has no effect"),
    ):
        with pytest.raises(ValueError, match=message):
            tokenize(words)


def alive(group: int) -> list[int]:
    """The processes of a group."""
    stats = (path.read_text().rpartition(")")[2].split() for path in list_stats())
    return [int(fields[2]) for fields in stats if int(fields[2]) == group and fields[0] != "Z"]


def list_stats() -> Iterator[Path]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        if path.exists():
            yield path


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_killed_it_leaves_nothing_half_written_and_goes_on(tmp_path: Path) -> None:
    """kill -9 of the process that reads ends its encoders too; then two encoders make what one makes."""
    text, folder = tmp_path / "long.txt", tmp_path / "tokens"
    text.write_text(prose(200_000), encoding="utf-8")
    words = [str(text), "--tokenizer", "byte", "--shard-chars", "20000", "--out", str(folder), "--processes", "2"]
    start = [sys.executable, "-m", "text.tokenize", *words]
    child = subprocess.Popen(start, cwd=ROOT, start_new_session=True)
    while child.poll() is None and len([*folder.glob("shard-*.bin")]) < 4:
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    until = time.monotonic() + 60
    while alive(child.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(child.pid)
    assert not (folder / RECORD).exists()
    kept = [json.loads(line) for line in (folder / PROGRESS).read_text().splitlines()[1:] if line.endswith("}")]
    before = files(folder)
    subprocess.run(start, cwd=ROOT, check=True, timeout=300)
    after = files(folder)
    assert all(after[shard["name"]] == before[shard["name"]] for shard in kept)
    assert np.array_equal(tokens(folder), np.frombuffer(text.read_bytes(), np.uint8))
