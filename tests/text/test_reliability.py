"""Training that is killed, interrupted, starved of disk, damaged and spread over processes loses nothing."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from core.training.checkpoints import Checkpoints, load_weights, verify
from tests.processes import Commands, assert_close, assert_same_run, lines
from tests.text.processes import TINY, prose
from text.models.gpt import GPT, GPTConfig
from text.pretrained.folders import export_pretrained
from text.tokens.bpe import BPETokenizer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")


@pytest.fixture(scope="module")
def commands(place: Path) -> Commands:
    return Commands(place)


def steps(out: Path) -> list[int]:
    return Checkpoints(out).steps()


def reached(out: Path, step: int) -> bool:
    return max(steps(out), default=0) >= step


def test_killed_and_interrupted_at_any_moment_it_resumes_to_the_same_losses(commands: Commands, place: Path) -> None:
    """kill -9 while a checkpoint is written, kill -9 anywhere, Ctrl-C and SIGTERM by turns, until the run is whole."""
    whole, cut = place / "whole", place / "cut"
    arguments = (*TINY, "--data", place / "text.txt", "--steps", 32, "--save-every", 1, "--eval-every", 9)
    arguments += ("--model.core.dropout", 0.2, "--model.core.attention-dropout", 0.1, "--ema", 0.9)
    arguments += ("--accumulate", 2, "--sample", 8)
    assert commands.run("text.train", *arguments, "--out", whole).process.exitcode == 0
    chance, turn, mid_write, ends = random.Random(0), 0, 0, []
    while not ends or ends[-1] != 0:
        go_on = ("--out", cut, "--resume") if (cut / "config.json").exists() else (*arguments, "--out", cut)
        life = commands.begin("text.train", *go_on)
        goal = (steps(cut) or [0])[-1] + chance.randrange(2, 9)
        turn += 1
        if turn % 2:
            life.wait_for(lambda goal=goal: reached(cut, goal - 1) and any((cut / "checkpoints").glob(".step-*.part")))
            life.signal(signal.SIGKILL)
        else:
            life.wait_for(lambda goal=goal: reached(cut, goal))
            time.sleep(chance.random() * 0.02)
            life.signal((signal.SIGKILL, signal.SIGINT, signal.SIGTERM)[turn // 2 % 3])
        ends.append(life.end())
        mid_write += any((cut / "checkpoints").glob(".*.part"))
        for step in steps(cut):
            verify(Checkpoints(cut).path(step))
    assert {-signal.SIGKILL, 130} <= set(ends) <= {-signal.SIGKILL, 130, 0}
    assert mid_write
    assert_same_run(whole, cut)
    assert not list(cut.rglob("*.part"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_to_go_on_and_that_works(
    commands: Commands, place: Path, number: signal.Signals
) -> None:
    out = place / f"interrupted by {number.name}"  # a name that a shell must be given in quotes
    arguments = (*TINY, "--data", place / "text.txt", "--steps", 100_000, "--save-every", 100_000, "--out", out)
    life = commands.begin("text.train", *arguments)
    life.wait_for(lambda: (out / "metrics.jsonl").exists() and len(lines(out)) > 2)
    life.signal(number)
    assert life.end() == 130
    [step] = steps(out)
    advice = life.err[-1].partition(f"interrupted at step {step}, which is saved; go on with: ")[2]
    python, flag, module, *rest = shlex.split(advice)
    assert (python, flag, module, rest) == ("python", "-m", "text.train", ["--out", str(out), "--resume"])
    assert commands.run(module, *rest, "--steps", step + 2).process.exitcode == 0
    assert [line["step"] for line in lines(out)] == [*range(1, step + 3), step + 2]


def test_a_full_disk_stops_the_run_and_loses_nothing(commands: Commands, place: Path) -> None:
    out = place / "full"
    arguments = (*TINY, "--data", place / "text.txt", "--save-every", 2, "--out", out)
    assert commands.run("text.train", *arguments, "--steps", 4).process.exitcode == 0
    go_on = ("--out", out, "--resume", "--steps", 6)
    life = commands.run("text.train", *go_on, largest_file=50_000)
    assert life.process.exitcode == 1
    assert "step 6" in life.err[-1]
    assert "File too large" in life.err[-1]
    assert steps(out) == [2, 4]
    assert not list(out.rglob(".*.part"))
    assert commands.run("text.train", *go_on).process.exitcode == 0
    assert steps(out) == [4, 6]


def test_a_full_disk_while_tokenising_leaves_nothing(commands: Commands, place: Path) -> None:
    (place / "other.txt").write_text(prose(500), encoding="utf-8")
    arguments = (*TINY, "--data", place / "other.txt", "--steps", 1, "--out", place / "never")
    data = place / "small data"
    life = commands.run("text.train", *arguments, largest_file=8_000, environment={"TRIPTYCH_DATA": str(data)})
    assert life.process.exitcode == 1
    [line] = life.err
    assert line.startswith("error: ")
    assert "File too large" in line
    assert str(data) in line
    assert not list(data.rglob("*.bin"))
    assert not (place / "never").exists()


def public_folder(place: Path) -> Path:
    """A public model in Hugging Face's layout, with random weights and a small byte-pair encoding."""
    tokenizer = BPETokenizer.train([prose()], 280)
    position = PositionConfig("learned")
    core = TransformerConfig(dim=16, depth=1, n_heads=2, feedforward="gelu-tanh", dropout=0.1, position=position)
    export_pretrained(GPT(GPTConfig(tokenizer.vocab_size, 16, "tied", core)), place / "public", "gpt2", tokenizer)
    return place / "public"


def test_fine_tuning_lowers_the_loss_and_resumes_without_the_public_model(commands: Commands, place: Path) -> None:
    public, whole, cut = public_folder(place), place / "tuned", place / "tuned and cut"
    arguments = ("nanogpt-cpu", "--init-from", public, "--data", place / "text.txt", "--steps", 24, "--log-every", 1)
    arguments += ("--batch-size", 4, "--save-every", 1, "--eval-every", 12, "--optimizer.lr", 1e-2, "--ema", 0.5)
    assert commands.run("text.train", *arguments, "--out", whole).process.exitcode == 0
    life = commands.begin("text.train", *arguments, "--out", cut)
    life.wait_for(lambda: len(steps(cut)) > 1)
    life.signal(signal.SIGKILL)
    assert life.end() == -signal.SIGKILL
    shutil.rmtree(public)
    assert commands.run("text.train", "--out", cut, "--resume").process.exitcode == 0
    assert_same_run(whole, cut)
    first, *_, last = (line["train/loss"] for line in lines(whole) if "train/loss" in line)
    assert last < first - 1  # by 2.15 +- 0.07 over seeds 0-4


PAIRED = (*TINY, "--steps", 12, "--eval-every", 6, "--batch-size", 8, "--eval-batch", 5, "--ema", 0.9)
PAIRED += ("--optimizer.muon-lr", 0.002)  # a step of Muon's multiplies differences of rounding
ROUNDING = 1e-4
"""Sums in another order changed losses by up to 1e-6 and perplexities, which are near 20, by up to 1e-5 (6 seeds)."""


@pytest.fixture(scope="module")
def single(commands: Commands, place: Path) -> Path:
    """What one process makes of PAIRED."""
    out = place / "single"
    assert commands.run("text.train", *PAIRED, "--data", place / "text.txt", "--out", out).process.exitcode == 0
    return out


@pytest.mark.slow
def test_two_processes_by_torchrun_make_the_losses_of_one(place: Path, single: Path) -> None:
    out = place / "launched"
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, "-m", "text.train")
    command = [sys.executable, *launch, *PAIRED, "--data", place / "text.txt", "--device", "cpu", "--out", out]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (Checkpoints(out).find("last") / "rng-1.json").exists()
    assert_close(single, out, ROUNDING)


def test_two_interrupted_processes_resume_to_the_losses_of_one(commands: Commands, place: Path) -> None:
    alone, out = place / "uninterrupted", place / "interrupted pair"
    steady = ("--schedule.kind", "constant", "--schedule.warmup", 0)  # the same whatever the number of steps
    arguments = (*PAIRED, *steady, "--data", place / "text.txt", "--save-every", 4)
    main, other = commands.pair("text.train", *arguments, "--out", out, "--steps", 100_000)
    main.wait_for(lambda: steps(out))
    other.signal(signal.SIGTERM)  # to one of them alone
    assert (main.end(), other.end()) == (130, 130)
    end = max(12, steps(out)[-1] + 2)
    lives = commands.pair("text.train", "--out", out, "--resume", "--steps", end)
    assert [life.end() for life in lives] == [0, 0]
    assert commands.run("text.train", *arguments, "--out", alone, "--steps", end).process.exitcode == 0
    assert_close(alone, out, ROUNDING)


@pytest.fixture(scope="module")
def saved(commands: Commands, place: Path) -> Path:
    """A run of 9 steps with checkpoints of steps 3, 6 and 9."""
    out = place / "saved"
    arguments = (*TINY, "--data", place / "text.txt", "--steps", 9, "--save-every", 3, "--keep", 3, "--out", out)
    assert commands.run("text.train", *arguments).process.exitcode == 0
    return out


def copy(run: Path, name: str) -> Path:
    return shutil.copytree(run, run.with_name(name))


def flip(file: Path) -> None:
    """Changes one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_goes_on(commands: Commands, saved: Path) -> None:
    out = copy(saved, "damaged")
    for step, file in ((9, "model.safetensors"), (6, "optimizer.safetensors")):
        flip(Checkpoints(out).path(step) / file)
    for module, *arguments in (("text.train", "--out", out, "--resume"), ("text.sample", out, "--prompt", "The")):
        life = commands.run(module, *arguments)
        assert life.process.exitcode == 2
        [line] = life.err
        assert f"{Checkpoints(out).path(9) / 'model.safetensors'} is damaged" in line
        assert "--checkpoint last-good" in line
    life = commands.run("text.train", "--out", out, "--resume", "--checkpoint", "last-good")
    assert life.process.exitcode == 0
    assert f"resuming {out} at step 3" in life.err[0]
    assert lines(out) == lines(saved)
    again, before = load_weights(out, "last"), load_weights(saved, "last")
    assert all(torch.equal(again[name], before[name]) for name in before)


def refused(commands: Commands, *arguments: object) -> str:
    """The one line with which a resume is refused."""
    life = commands.run("text.train", *arguments)
    assert life.process.exitcode == 2
    [line] = life.err
    assert line.startswith("error: ")
    return line


def test_what_does_not_match_is_refused_by_name(commands: Commands, place: Path, saved: Path) -> None:
    out = copy(saved, "mismatched")
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    arguments = (*TINY, "--data", place / "text.txt", "--steps", 9, "--save-every", 3)

    assert "--resume" in refused(commands, *arguments, "--out", out)
    assert "seed = 0, not 1" in refused(commands, "--out", out, "--resume", "--seed", 1)
    assert f"{place} is not a run folder" in refused(commands, "--out", place, "--resume")

    other = place / "same letters.txt"
    other.write_text(prose()[::-1], encoding="utf-8")
    assert f"data = '{other}'" in refused(commands, "--out", out, "--resume", "--data", other)
    other.write_text("Ω" + prose(), encoding="utf-8")
    assert "'Ω' (U+03A9) at position 0" in refused(commands, "--out", out, "--resume", "--data", other)

    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    config = out / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"format": 99}))
    assert f"{config} has format 99" in refused(commands, "--out", out, "--resume")
    config.write_text("{")
    assert f"{config} is not valid JSON" in refused(commands, "--out", out, "--resume")


@pytest.mark.parametrize("rate", ["--optimizer.muon-lr", "--optimizer.lr"])
def test_a_diverging_run_stops_and_saves_nothing_poisoned(commands: Commands, place: Path, rate: str) -> None:
    out = place / f"diverged by {rate}"
    arguments = (*TINY, "--data", place / "text.txt", "--steps", 40, "--save-every", 1, rate, 1e38, "--out", out)
    life = commands.run("text.train", *arguments)
    assert life.process.exitcode == 1
    assert re.match(r"error: .*(loss|weight|gradient norm) .*at step \d", life.err[-1])
    for step in steps(out):
        assert all(tensor.square().isfinite().all() for tensor in load_weights(out, step).values())
    assert f"{Checkpoints(out).find('last')}" in life.err[-1] if steps(out) else "nothing was saved yet" in life.err[-1]
