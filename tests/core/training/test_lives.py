"""Whole processes, killed, interrupted, starved of disk, and launched in pairs."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from core.training.checkpoints import Checkpoints, load_weights, verify
from core.training.trained import matches_data
from tests.core.training.toy import live
from tests.processes import forking, lines

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")


@pytest.fixture(scope="module")
def processes() -> Any:
    """Children forked from a server that has everything imported, so that a life costs no import."""
    return forking()


def begin(
    processes: Any, log: Path, *arguments: str, environment: dict[str, str] | None = None, largest_file: int = 0
) -> BaseProcess:
    child = processes.Process(target=live, args=(list(arguments), log, environment or {}, largest_file))
    child.start()
    return child


def finish(child: BaseProcess) -> int:
    child.join(120)
    assert child.exitcode is not None, "the process hangs"
    return child.exitcode


def wait_for(condition: Any, child: BaseProcess) -> None:
    while child.is_alive() and not condition():
        time.sleep(0.0005)


def assert_same_run(a: Path, b: Path) -> None:
    assert lines(a) == lines(b)
    first, second = load_weights(a, "last"), load_weights(b, "last")
    assert all(torch.equal(first[name], second[name]) for name in first | second)


def test_killed_at_any_moment_it_resumes_to_the_same_losses(processes: Any, tmp_path: Path) -> None:
    arguments = ("--steps", "40", "--save-every", "1", "--dropout", "0.2", "--ema", "0.9", "--batch-size", "4")
    whole, cut, log = tmp_path / "whole", tmp_path / "cut", tmp_path / "log"
    assert finish(begin(processes, log, "toy", *arguments, "--out", str(whole))) == 0
    chance, lives, mid_write = random.Random(0), 0, 0
    checkpoints = cut / "checkpoints"
    while True:
        resume = ["--resume"] if (cut / "config.json").exists() else []
        child = begin(processes, log, "toy", *arguments, "--out", str(cut), *resume)
        lives += 1
        steps = len(Checkpoints(cut).steps()) and Checkpoints(cut).steps()[-1]
        goal = steps + chance.randrange(1, 6)
        if lives % 2:  # while a checkpoint is being written
            wait_for(lambda goal=goal: any(checkpoints.glob(f".step-{goal:08d}*.part")), child)
        else:  # anywhere in a step
            wait_for(lambda goal=goal: Checkpoints(cut).path(goal).exists(), child)
            time.sleep(chance.random() * 0.02)
        child.kill()
        if finish(child) == 0:
            break
        mid_write += any(checkpoints.glob("*.part")) or any(checkpoints.glob(".*.part"))
        for step in Checkpoints(cut).steps():
            verify(Checkpoints(cut).path(step))
    assert lives > 5
    assert mid_write > 0
    assert_same_run(whole, cut)
    assert not list(cut.rglob("*.part"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_saves_and_says_how_to_go_on(processes: Any, tmp_path: Path, number: signal.Signals) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    arguments = ("toy", "--steps", "100000", "--save-every", "1000000", "--log-every", "1", "--out", str(out))
    child = begin(processes, log, *arguments)
    wait_for(lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size > 999, child)
    assert child.pid is not None
    os.kill(child.pid, number)
    assert finish(child) == 130
    (step,) = {Checkpoints(out).steps()[-1]}
    assert f"interrupted at step {step}, which is saved; go on with: python" in log.read_text()
    assert log.read_text().splitlines()[-1].endswith(f"--out {out} --resume")
    assert lines(out)[-1]["step"] == step
    assert finish(begin(processes, log, "--out", str(out), "--resume", "--steps", str(step + 3))) == 0
    assert lines(out)[-1]["step"] == step + 3


def test_a_full_disk_stops_the_run_and_loses_nothing(processes: Any, tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    start = ("toy", "--steps", "10", "--out", str(out))
    assert finish(begin(processes, log, *start)) == 0
    saved = Checkpoints(out).steps()
    again = ("--out", str(out), "--resume", "--steps", "20", "--log-every", "1")
    assert finish(begin(processes, log, *again, largest_file=20_000)) == 1
    message = log.read_text().splitlines()[-1]
    assert message.startswith("error: no checkpoint of step 15: ")
    assert "File too large" in message
    assert message.endswith("the earlier ones are intact")
    assert Checkpoints(out).steps() == saved
    assert not list(out.rglob(".*.part"))
    assert finish(begin(processes, log, *again, largest_file=1_500)) == 1
    assert "metrics.jsonl cannot be written" in log.read_text().splitlines()[-1]
    assert finish(begin(processes, log, *again)) == 0


def test_bad_input_is_one_line_and_exit_code_2(processes: Any, tmp_path: Path) -> None:
    locked = tmp_path / "file"
    locked.write_text("")
    for i, (arguments, message) in enumerate(
        (
            (["toi"], "error: unknown preset 'toi'; did you mean 'toy'?"),
            (["toy", "--optimzer.lr", "1"], "error: unknown option --optimzer.lr; did you mean --optimizer.lr?"),
            (
                ["toy", "--out", str(locked / "run")],
                f"error: {locked / 'run'}: no run can be written there: Not a directory",
            ),
            (["--out", str(tmp_path / "no"), "--resume"], "no is not a run folder: it has no config.json"),
        )
    ):
        log = tmp_path / f"log{i}"
        assert finish(begin(processes, log, *arguments)) == 2
        assert len(log.read_text().splitlines()) == 1
        assert message in log.read_text()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def begin_pair(
    processes: Any, log: Path, *arguments: str, second: tuple[str, ...] = (), data: tuple[str, str] = ("", "")
) -> list[BaseProcess]:
    """Two processes of one run; `second`: more arguments of the other one; `data`: what each is given."""
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "TOY_DATA": data[rank]} for rank in range(2)]
    return [
        begin(processes, log, *arguments, *more, "--device", "cpu", environment=shared | own)
        for more, own in zip(((), second), ranks, strict=True)
    ]


@pytest.mark.parametrize(
    "settings",
    [["--accumulate", "2", "--ema", "0.9", "--objectives", "two"], ["--optimizer.kind", "adamw", "--frozen", "blocks"]],
)
def test_two_processes_make_the_losses_of_one(processes: Any, tmp_path: Path, settings: list[str]) -> None:
    """The same global batch, cut in two, with uneven counts in each half; then one process goes on alone."""
    arguments = ("toy", "--steps", "12", *settings)
    one, two, log = tmp_path / "one", tmp_path / "two", tmp_path / "log"
    assert finish(begin(processes, log, *arguments, "--out", str(one))) == 0
    pair = begin_pair(processes, log, *arguments, "--out", str(two))
    assert [finish(child) for child in pair] == [0, 0], log.read_text()
    assert (two / "checkpoints" / "step-00000012" / "rng-1.json").exists()
    for out in (one, two):
        assert finish(begin(processes, log, "--out", str(out), "--resume", "--steps", "15")) == 0, log.read_text()
    for a, b in zip(lines(one), lines(two), strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_processes_that_were_started_differently_are_named(processes: Any, tmp_path: Path) -> None:
    """In both, before anything is written; a folder that holds a run is refused by both as well."""
    out, log = tmp_path / "run", tmp_path / "log"
    pair = begin_pair(processes, log, "toy", "--out", str(out), second=("--optimizer.lr", "0.5"))
    assert [finish(child) for child in pair] == [2, 2], log.read_text()
    said = "error: process 1 has optimizer.lr = 0.5, process 0 has 0.001: all processes of a run must be started alike"
    assert log.read_text().splitlines() == [said, said]
    assert not out.exists()
    log.unlink()
    pair = begin_pair(processes, log, "toy", "--steps", "1", "--out", str(out), data=("a", "b"))
    assert [finish(child) for child in pair] == [2, 2], log.read_text()
    assert log.read_text().count("error: process 1 has data.json.fingerprint = 'b', process 0 has 'a': all") == 2
    assert not out.exists()
    log.unlink()
    pair = begin_pair(processes, log, "toy", "--steps", "1", "--out", str(out), data=("a", "a"))
    assert [finish(child) for child in pair] == [0, 0], log.read_text()
    assert [matches_data(out, fingerprint) for fingerprint in "ab"] == [True, False]
    assert not list(out.rglob("*.part"))
    log.unlink()
    pair = begin_pair(processes, log, "toy", "--out", str(out))
    assert [finish(child) for child in pair] == [2, 2]
    assert log.read_text().count("already holds a run") == 2


def test_a_loss_that_is_no_number_in_one_process_ends_both(processes: Any, tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    pair = begin_pair(processes, log, "toy", "--out", str(out), "--poison", "8")
    assert [finish(child) for child in pair] == [1, 1], log.read_text()
    assert log.read_text().count("error: the loss is nan at step 8; the last good checkpoint is") == 2
    assert Checkpoints(out).steps() == [5]
    assert all(tensor.isfinite().all() for tensor in load_weights(out, "last").values())


def test_a_signal_to_one_process_stops_both_at_one_step(processes: Any, tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    arguments = ("toy", "--minutes", "10", "--save-every", "1000000", "--log-every", "1", "--out", str(out))
    pair = begin_pair(processes, log, *arguments)
    wait_for(lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size > 999, pair[0])
    assert pair[1].pid is not None
    os.kill(pair[1].pid, signal.SIGTERM)
    assert [finish(child) for child in pair] == [130, 130], log.read_text()
    step = Checkpoints(out).steps()[-1]
    assert log.read_text().count(f"interrupted at step {step}, which is saved") == 1


def test_a_lone_process_of_accelerate_is_shown_to_torchrun(processes: Any, tmp_path: Path) -> None:
    """`accelerate launch --cpu --num_processes 2` starts one process, with these variables and without a rank."""
    lone = {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    out, log = tmp_path / "run", tmp_path / "log"
    assert finish(begin(processes, log, "toy", "--steps", "5", "--out", str(out), environment=lone)) == 2
    [line] = log.read_text().splitlines()
    assert "torchrun --nproc_per_node N" in line
    assert not out.exists()


@pytest.mark.slow
def test_torchrun_starts_all_processes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    launch += ["-m", "tests.core.training.toy", "toy", "--steps", "5", "--device", "cpu", "--out", str(out)]
    done = subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in Checkpoints(out).path(5).glob("rng-*")} == {"rng-0.json", "rng-1.json"}
    assert [line["step"] for line in lines(out)] == [3, 5, 5]
