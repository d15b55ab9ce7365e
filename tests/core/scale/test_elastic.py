"""Machines that come and go: `torchrun --max-restarts` goes on with a run by itself."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from core.optim.config import OptimizerConfig
from core.training.checkpoints import Checkpoints, load_weights, verify
from core.training.command import parse
from tests.core.training.toy import PRESETS, ToyConfig, train
from tests.processes import lines

ROOT = Path(__file__).parents[3]
SETTINGS = ("toy", "--steps", "60", "--batch-size", "12", "--optimizer.kind", "adamw", "--optimizer.eps", "1e-4")


def test_a_command_that_is_started_again_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the launcher restarts: anywhere else the folder of a run is refused."""

    def resumed(restarts: str) -> bool:
        monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", restarts)
        return parse(ToyConfig, PRESETS, ["toy", "--out", str(tmp_path / "run")]).resume

    assert not resumed("3")
    config = dataclasses.replace(PRESETS["toy"], out=tmp_path / "run", steps=1)
    train(config)
    assert resumed("3")
    assert not resumed("0")
    with pytest.raises(ValueError, match="already holds a run"):
        train(config)


def test_a_launch_whose_restarts_would_fail_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(ValueError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where torchrun is started"):
        train(dataclasses.replace(PRESETS["toy"], out=tmp_path / "run", steps=1))
    assert not (tmp_path / "run").exists()


def launch(log: Path, out: Path, processes: int, *options: str) -> subprocess.Popen[bytes]:
    """An agent of torchrun with so many processes of a run."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), *options]
    words += ["-m", "tests.core.training.toy", *SETTINGS, "--device", "cpu", "--out", str(out)]
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return subprocess.Popen(words, cwd=ROOT, stderr=log.open("a"), stdout=subprocess.DEVNULL, env=environment)


def children(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.002)
    assert process.poll() is None, "it ended before anything was killed"


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def assert_as_if_nothing_had_happened(out: Path, whole: Path) -> None:
    optimizer = OptimizerConfig(kind="adamw", eps=1e-4)
    train(dataclasses.replace(PRESETS["toy"], out=whole, steps=60, batch_size=12, optimizer=optimizer))
    for a, b in zip(lines(out), lines(whole), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)
    ours, theirs = load_weights(out, "last"), load_weights(whole, "last")
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-6, atol=1e-6)
    for step in Checkpoints(out).steps():
        verify(Checkpoints(out).path(step))
    assert not list(out.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")
def test_one_of_three_processes_is_killed(tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    agent = launch(log, out, 3, "--standalone", "--max-restarts", "1")
    wait_for(lambda: Checkpoints(out).path(10).exists(), agent)
    os.kill(children(agent)[1], signal.SIGKILL)
    assert agent.wait(600) == 0, log.read_text()
    assert "resuming" in log.read_text()
    assert_as_if_nothing_had_happened(out, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")
def test_a_machine_is_lost_and_the_other_goes_on(tmp_path: Path) -> None:
    """Two machines with two processes and one; without the second, the first goes on with its two."""
    out, log = tmp_path / "run", tmp_path / "log"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    group = ("--nnodes", "1:2", "--rdzv_backend", "c10d", "--rdzv_endpoint", f"localhost:{port}", "--rdzv_id", "test")
    group += ("--rdzv_conf", "last_call_timeout=60,keep_alive_interval=1,keep_alive_max_attempt=3")
    group = (*group, "--max-restarts", "3")
    first = launch(log, out, 2, *group)  # which is to hold the meeting point: that cannot be lost
    wait_for(lambda: listening(port), first)
    second = launch(log, out, 1, *group)
    wait_for(lambda: any((out / "checkpoints").glob("step-*/rng-2.json")), first)
    [worker] = children(second)
    second.kill()
    os.kill(worker, signal.SIGKILL)
    assert first.wait(600) == 0, log.read_text()
    assert "resuming" in log.read_text()
    last = Checkpoints(out).find("last")
    assert len([*last.glob("rng-*.json")]) == 2
    assert_as_if_nothing_had_happened(out, tmp_path / "whole")
