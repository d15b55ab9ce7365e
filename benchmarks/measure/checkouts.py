"""A commit, checked out beside this one for a while, and its commands run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure.record import ROOT
from core.cli.exits import RunFailure

HERE = (".", "worktree")
"""Names of the working tree as it is."""
PANELS = ("text", "vision", "decision")
SLOW = ("torch._dynamo", "accelerate", "tyro", "torchvision", "sklearn.datasets", "gymnasium")
PRELOADED = (*SLOW, *(f"{panel}.train" for panel in PANELS))
NOWHERE = "http://127.0.0.1:9"
OFFLINE = {"HF_HUB_OFFLINE": "1", "http_proxy": NOWHERE, "https_proxy": NOWHERE}
FIXED = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", "MPLBACKEND": "agg"}
REFUSED = 2
LISTED = """
import importlib, json, sys
found = {}
for panel in sys.argv[1:]:
    try:
        found[panel] = list(importlib.import_module(panel + ".presets").PRESETS)
    except ModuleNotFoundError:
        found[panel] = []
print(json.dumps(found))
"""


class Outcome(NamedTuple):
    """What became of a command: its exit code, and why it failed, "" where it did not."""

    code: int
    message: str


@dataclass(frozen=True)
class Checkout:
    """A folder of code and what runs its commands, in `work`."""

    name: str
    code: Path
    work: Path
    server: subprocess.Popen[str]

    def run(self, module: str, *arguments: str, seconds: int = 300) -> Outcome:
        """`python -m MODULE ARGUMENTS` in the checkout; killed after `seconds`."""
        assert self.server.stdin
        assert self.server.stdout
        log = self.work / "log.txt"
        job = {"module": module, "arguments": arguments, "log": str(log), "seconds": seconds}
        print(json.dumps(job), file=self.server.stdin, flush=True)
        answer = self.server.stdout.readline()
        if not answer:
            raise RunFailure(f"the process that runs the commands of {self.name} has died")
        return Outcome(int(answer), _reason(int(answer), log, seconds))

    def presets(self) -> dict[str, list[str]]:
        """Names of the presets of each panel; none of a panel that the commit lacks."""
        command = [sys.executable, "-P", "-c", LISTED, *PANELS]
        done = subprocess.run(command, cwd=self.code, env=_environment(self), capture_output=True, text=True)
        if done.returncode:
            raise RunFailure(f"the presets of {self.name} cannot be listed: {_last_line(done.stderr)}")
        return json.loads(done.stdout)


@contextmanager
def opened(name: str, work: Path) -> Iterator[Checkout]:
    """A commit, or "." for the working tree, ready to run commands in the new folder `work`.

    Raises ValueError for a commit that git does not know. Whatever happens, nothing of it stays.
    """
    work.mkdir()
    with _code(name, work / "code") as code, _served(code, _own_data(work / "data")) as server:
        yield Checkout(name, code, work, server)


@contextmanager
def _code(name: str, folder: Path) -> Iterator[Path]:
    """The commit's files in a git worktree that is removed in the end."""
    if name in HERE:
        yield ROOT
        return
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").stdout.strip()
    if not commit:
        raise ValueError(f"{name!r} is neither a commit of this repository nor '.', the working tree")
    try:
        added = _git("worktree", "add", "--detach", str(folder), commit)
        if added.returncode:
            raise RunFailure(f"{name} cannot be checked out: {_last_line(added.stderr)}")
        yield folder
    finally:
        _git("worktree", "remove", "--force", "--force", str(folder))


@contextmanager
def _served(code: Path, data: Path) -> Iterator[subprocess.Popen[str]]:
    """`benchmarks.measure.forked` for a checkout, in a session of its own, which is ended with all that it began."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("forked.py")), *PRELOADED]
    server = subprocess.Popen(
        command,
        cwd=code,
        env=_environment_of(code, data),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield server
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


def _own_data(folder: Path) -> Path:
    """A root of data with everything that is there but its cache: each side tokenises for itself."""
    folder.mkdir()
    shared = Path(os.environ.get("TRIPTYCH_DATA") or "~/.cache/triptych").expanduser()
    for path in shared.iterdir() if shared.is_dir() else ():
        if path.name != "cache":
            (folder / path.name).symlink_to(path.resolve())
    return folder


def _environment(checkout: Checkout) -> dict[str, str]:
    return _environment_of(checkout.code, checkout.work / "data")


def _environment_of(code: Path, data: Path) -> dict[str, str]:
    own = {"PYTHONPATH": str(code), "TRIPTYCH_DATA": str(data), "PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, **FIXED, **OFFLINE, **own}


def _reason(code: int, log: Path, seconds: int) -> str:
    """Why a command failed, in one line."""
    if code == 0:
        return ""
    if code == -signal.SIGALRM:
        return f"took over {seconds} s"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}{' (out of memory?)' * (code == -signal.SIGKILL)}"
    return _last_line(log.read_text(encoding="utf-8", errors="replace")).removeprefix("error: ")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it says not why"])[-1]


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
