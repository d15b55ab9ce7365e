"""`text.sample`: decided by its seed, streamed, interactive, piped, and stopped early."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from core.decoding.filters import Sampling
from core.decoding.generate import complete
from tests.processes import Command, Commands
from tests.text.processes import written
from tests.text.tokens.test_tokenizers import CHARACTERS, TOKENIZERS
from text.sample import SampleConfig, continuations, decoded, written_ends
from text.trained import Trained


def test_a_sample_is_decided_by_its_seed(command: Command, trained: Trained, run_folder: Path) -> None:
    arguments = (run_folder, "--prompt", "The king", "--tokens", 60, "--temperature", 1)
    first = written(command, *arguments, "--seed", 3)
    assert written(command, *arguments, "--seed", 3) == first
    assert written(command, *arguments, "--seed", 4) != first
    ids = trained.tokenizer.encode("The king").tolist()
    [new] = complete(trained.model, [ids], 60, Sampling(temperature=1), seeds=[3])
    assert first == trained.tokenizer.decode(ids + new) + "\n"  # streamed or not, it is the same


def test_several_samples_are_those_of_the_seeds_that_follow(command: Command, run_folder: Path) -> None:
    arguments = (run_folder, "--prompt", "The", "--tokens", 20, "--temperature", 1)
    several = written(command, *arguments, "--samples", 3, "--seed", 5)
    single = [written(command, *arguments, "--seed", seed) for seed in (5, 6, 7)]
    assert several == ("-" * 40 + "\n").join(single)


def test_a_sample_ends_at_its_stop(command: Command, run_folder: Path) -> None:
    text = written(command, run_folder, "--prompt", "The king", "--tokens", 200, "--stop", "\n")
    assert text.index("\n") == len(text) - 2  # the stop itself, and the end of the output


@pytest.mark.parametrize("rule", [("--temperature", 0), ("--seed", 3), ("--beams", 3)])
def test_a_sample_ends_at_the_first_of_its_stops_across_tokens(
    command: Command, run_folder: Path, rule: tuple[object, ...]
) -> None:
    arguments = (run_folder, "--prompt", "The king", "--tokens", 60, *rule)
    whole = written(command, *arguments).removesuffix("\n")
    added = whole.removeprefix("The king")
    stop = added[12:17]  # five tokens of a character
    text = written(command, *arguments, "--stop", "\n" * 9, stop)
    assert text.endswith(stop + "\n")
    assert text.count(stop) == 1 + "The king".count(stop)
    if "--beams" not in rule:  # beams that end early compete otherwise
        assert text == "The king" + added[: added.index(stop)] + stop + "\n"
        two = (stop, added[3:6])
        end = min(added.index(each) + len(each) for each in two)
        assert written(command, *arguments, "--stop", two[0], "--stop", two[1]) == f"The king{added[:end]}\n"


@pytest.mark.parametrize("kind", ["char", "byte", "bpe", "sentencepiece"])
@given(st.data())
def test_a_stop_ends_a_text_at_its_end_in_every_kind_of_tokenizer(kind: str, data: st.DataObject) -> None:
    text = "a" + data.draw(st.text(CHARACTERS, min_size=1, max_size=30))
    stops = data.draw(st.lists(st.text(CHARACTERS, min_size=1, max_size=3), max_size=3))
    tokenizer = TOKENIZERS[kind]
    first, *ids = tokenizer.encode(text).tolist()
    prompt, *pieces = decoded(tokenizer, [first], iter(ids), stops)
    added = text.removeprefix(prompt)
    ends = [added.index(stop) + len(stop) for stop in stops if stop in added]
    assert "".join(pieces) == added[: min(ends, default=len(added))]
    ended = written_ends(tokenizer, stops)
    if ends and ended:
        count = next(n for n in range(1, len(ids) + 1) if ended(ids[:n]))
        before, after = (tokenizer.decode([first, *ids[:n]])[len(prompt) :] for n in (count - 1, count))
        assert any(stop in after for stop in stops)
        assert not any(stop in before for stop in stops)


def test_beam_search_and_greedy(command: Command, trained: Trained, run_folder: Path) -> None:
    arguments = (run_folder, "--prompt", "The ", "--tokens", 12)
    greedy = written(command, *arguments, "--temperature", 0)
    assert written(command, *arguments, "--beams", 1) == greedy
    wide = written(command, *arguments, "--beams", 4)
    assert log_probability(trained, wide[:-1]) >= log_probability(trained, greedy[:-1]) - 1e-6


@torch.no_grad()
def log_probability(trained: Trained, text: str) -> float:
    ids = torch.from_numpy(trained.tokenizer.encode(text))
    return -F.cross_entropy(trained.model(ids[None, :-1])[0], ids[1:], reduction="sum").item()


def test_an_empty_prompt_is_a_newline(command: Command, run_folder: Path) -> None:
    assert len(written(command, run_folder, "--prompt", "", "--tokens", 9)) == 1 + 9 + 1  # a newline leads


def test_the_prompt_may_come_from_standard_input(
    command: Command, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("The lamp"))
    piped = written(command, run_folder, "--tokens", 9)
    assert piped == written(command, run_folder, "--tokens", 9, "--prompt", "The lamp")


def test_pieces_come_one_by_one(trained: Trained) -> None:
    pieces = continuations(trained, "The", SampleConfig(tokens=10))
    assert next(pieces) == "The"
    assert len(next(pieces)) == 1
    assert len("".join(pieces)) == 9


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_on_a_terminal_it_asks_for_prompts_until_the_end_of_input(run_folder: Path, place: Path) -> None:
    ours, theirs = pty.openpty()
    life = Commands(place).begin("text.sample", run_folder, "--tokens", 5, terminal=os.ttyname(theirs))
    said = ""

    def until(awaited: str) -> str:
        nonlocal said
        while awaited not in said:
            assert select.select([ours], [], [], 60)[0], f"it hangs after {said!r}"
            said += os.read(ours, 4096).decode()
        before, _, said = said.partition(awaited)
        return before

    assert "Ctrl-D" in until("> ")
    os.write(ours, b"The king\n")
    assert "The king\r\nThe king" in until("> ").replace("\x1b[?2004l", "")
    os.write(ours, b"A queen\n")
    assert "the character 'A' (U+0041) at position 0" in until("> ")
    os.write(ours, b"The sea\n")
    until("\nThe sea")
    until("> ")
    os.write(ours, b"\x04")  # Ctrl-D
    assert life.end() == 0
    os.close(theirs)
    os.close(ours)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_closed_pipe_ends_it_quietly(run_folder: Path, place: Path) -> None:
    os.mkfifo(place / "pipe")
    words = (run_folder, "--prompt", "The", "--tokens", 100_000)
    life = Commands(place).begin("text.sample", *words, stdout=place / "pipe", stderr=place / "quiet")
    with (place / "pipe").open("rb", buffering=0) as pipe:
        assert pipe.read(3) == b"The"
    assert life.end() in (0, -signal.SIGPIPE)
    assert life.err == []
