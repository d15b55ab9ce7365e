"""A wheel of the tree holds all that the commands need: each runs from an installation, in another folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.imports import sources
from benchmarks.measure.record import ROOT

MAIN = '__name__ == "__main__"'
COMMANDS = [
    name if name.split(".")[0] != "benchmarks" else name.removesuffix(".__main__")
    for name, file in sources().items()
    if MAIN in file.read_text("utf-8") and not name.startswith(("benchmarks.measure", "core"))
]
HELP = """
import runpy, sys
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, f"{name} --help ended with {end.code}"
from benchmarks.demo import report
assert "site" in report.__file__, report.__file__
print("\\nstyle:", len(report.STYLE.read_text()))
"""


def run(*words: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(words, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_every_command_runs_from_an_installed_wheel(tmp_path: Path) -> None:
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", folder=ROOT).splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / "tree" / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    (tmp_path / "elsewhere").mkdir()
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "./tree", folder=tmp_path)
    [wheel] = tmp_path.glob("triptych-*.whl")
    run(*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel), folder=tmp_path)
    work = {"folder": tmp_path / "elsewhere", "PYTHONPATH": str(tmp_path / "site")}
    assert {"text.train", "vision.predict", "decision.collect", "benchmarks.demo"} <= {*COMMANDS}
    printed = run(sys.executable, "-c", HELP, *COMMANDS, **work)
    assert int(printed.split()[-1]) > 1000, "the style of the report is package data"
