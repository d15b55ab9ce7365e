"""What every panel of the demo needs: its commands run, each in a process of its own, and its run folder read."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.measure.record import ROOT


def run(module: str, *arguments: str) -> None:
    """Run a command of ours with its output in view; CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", module, *arguments], env=_environment(), check=True)


def ask(module: str, *arguments: str) -> str:
    """Run a command of ours and return what it prints to standard output."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=_environment(), check=True, stdout=subprocess.PIPE)
    return done.stdout.decode("utf-8", "replace")


def parameters(folder: Path) -> int:
    """How many numbers the weights of a run folder's last checkpoint hold."""
    from safetensors import safe_open

    file = max(folder.glob("checkpoints/step-*/model.safetensors"))
    with safe_open(file, framework="numpy") as weights:
        return sum(math.prod(part.get_shape()) for part in map(weights.get_slice, weights.keys()))


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
