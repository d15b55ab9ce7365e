"""Commands of the panels as processes of their own, forked from one that has everything imported."""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import socket
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from core.files.tensors import read_tensors
from core.training.checkpoints import Checkpoints
from core.training.metrics import read_metrics

PANELS = ["text.train", "text.sample", "text.export", "vision.train", "decision.train", "decision.finetune"]
LIBRARIES = ["torch._dynamo", "accelerate", "timm", "matplotlib.pyplot", "sacrebleu", "scipy.stats", "sklearn.cluster"]
PRELOADED = [*LIBRARIES, *PANELS, "tests.frozen"]
"""What takes long to import, and at last what keeps all of it out of garbage collections."""
UNITS = ("tokens", "pairs", "texts", "words", "images", "timesteps")
CLOCKS = (
    *("seconds", "train/data_wait", "train/memory_gib", "train/mfu"),
    *(f"train/{unit}_per_second" for unit in UNITS),
)


def forking() -> Any:
    """Starts processes from the one server of this process, which has everything imported whoever asks it first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class Outcome(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: list[str]


Command = Callable[..., Outcome]


def lines(run: Path) -> list[dict[str, Any]]:
    """What a run measured, without what depends on the clock."""
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in read_metrics(run)]


def assert_same_run(a: Path, b: Path) -> None:
    """Measurements, weights and what else a run leaves are the same, bit for bit."""
    assert lines(a) == lines(b)
    for name in ("model", "optimizer", "ema"):
        first, second = (read_tensors(Checkpoints(run).find("last") / f"{name}.safetensors") for run in (a, b))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    kept = [{file.name: file.read_bytes() for file in (*run.glob("*.json"), *run.glob("samples/*"))} for run in (a, b)]
    assert kept[0].keys() == kept[1].keys()
    assert all(kept[0][name] == kept[1][name] for name in kept[0].keys() - {"config.json"})


def assert_close(a: Path, b: Path, tolerance: float) -> None:
    """Measurements are the same but for rounding, relative above 1; the norm of gradients, of one process, aside."""
    for first, second in zip(lines(a), lines(b), strict=True):
        assert first.keys() == second.keys()
        for name in first.keys() - {"train/grad_norm"}:
            assert first[name] == pytest.approx(second[name], rel=tolerance, abs=tolerance)


@dataclass
class Streams:
    """The files that a process reads and writes; `terminal` is all three of them."""

    stdin: str = os.devnull
    stdout: str = ""
    stderr: str = ""
    terminal: str = ""

    def open(self) -> None:
        """Takes them over as file descriptors 0, 1 and 2, and as Python's streams."""
        if self.terminal:
            os.setsid()  # the terminal opened next becomes this process's own: its Ctrl-C arrives here
        create = os.O_WRONLY | os.O_CREAT
        for number, name in enumerate((self.stdin, self.stdout, self.stderr)):
            os.dup2(os.open(self.terminal or name, os.O_RDWR if self.terminal else create if number else 0), number)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115


def run_module(
    module: str, arguments: list[str], streams: Streams, largest_file: int, environment: dict[str, str]
) -> None:
    """`python -m MODULE ARGUMENTS`, in this process."""
    streams.open()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    torch.set_num_threads(1)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


@dataclass
class Life:
    """A command that is running, or has run."""

    process: BaseProcess
    streams: Streams

    def end(self, seconds: float = 60) -> int:
        """Waits for the end; the exit code, or minus the signal that killed it."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "the process hangs"
        return self.process.exitcode

    def signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.process.is_alive():
            assert self.process.pid is not None
            os.kill(self.process.pid, number)

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Returns once the condition holds, or the process has ended."""
        while self.process.is_alive() and not condition():
            time.sleep(0.001)

    @property
    def err(self) -> list[str]:
        """The lines of standard error."""
        return Path(self.streams.stderr).read_text(encoding="utf-8").splitlines()


class Commands:
    """Starts commands as processes; `folder` takes their output."""

    def __init__(self, folder: Path):
        self.folder, self.count = folder, 0
        self.context = forking()

    def begin(
        self, module: str, *arguments: object, largest_file: int = 0, environment: Any = None, **streams: object
    ) -> Life:
        """Starts `python -m MODULE ARGUMENTS`; largest_file: bytes beyond which no file grows, as on a full disk."""
        self.count += 1
        log = {name: f"{self.folder / 'life'}-{self.count}.{name}" for name in ("stdout", "stderr")}
        opened = Streams(**log | {name: str(file) for name, file in streams.items()})
        now = {name: value for name, value in os.environ.items() if name == "TRIPTYCH_DATA"}  # the server may be older
        words = [*map(str, arguments)]
        process = self.context.Process(
            target=run_module, args=(module, words, opened, largest_file, now | (environment or {})), daemon=True
        )
        process.start()
        return Life(process, opened)

    def run(self, module: str, *arguments: object, **options: Any) -> Life:
        """Starts a command and waits for its end."""
        life = self.begin(module, *arguments, **options)
        life.end()
        return life

    def pair(self, module: str, *arguments: object) -> list[Life]:
        """Starts two processes of one run as `torchrun` starts them."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        together = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        ranks = [together | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
        return [self.begin(module, *arguments, environment=environment) for environment in ranks]
