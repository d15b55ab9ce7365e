"""The Makefile sets up once and never by halves."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.measure.record import ROOT

STUB = """#!/bin/sh
# Stands in for Python: notes what the Makefile asks of it, and fails where a file says so.
case "$1 $2" in
    -c*) test ! -e too-old ;;
    --version*) echo "Python 3.11.0" ;;
    "-m venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo venv >> calls ;;
    "-m pip") case "$3" in
        --version) test ! -e no-pip ;;
        *) echo install >> calls
           if test -e killed; then kill -9 $$; fi
           test ! -e offline ;;
        esac ;;
    *) echo "$2" >> calls ;;
esac
"""

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="no make")


class House:
    """A bare clone as far as the Makefile sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)
        python = folder / "stub-python"
        python.write_text(STUB)
        python.chmod(0o755)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "PYTHON=./stub-python", *arguments]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        return subprocess.run(command, cwd=self.folder, env=clean, capture_output=True, text=True)

    def flag(self, name: str) -> Path:
        path = self.folder / name
        path.touch()
        return path

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@needs_make
def test_a_second_call_does_not_install_again(house: House) -> None:
    assert house.make("demo").returncode == 0
    assert house.make("demo").returncode == 0
    assert house.calls == ["venv", "install", "benchmarks.demo", "benchmarks.demo"]


@needs_make
@pytest.mark.parametrize("trouble", ["offline", "killed"])
def test_an_install_that_failed_is_done_again(house: House, trouble: str) -> None:
    flag = house.flag(trouble)
    assert house.make("demo").returncode != 0
    flag.unlink()
    assert house.make("demo").returncode == 0
    assert house.calls == ["venv", "install", "install", "benchmarks.demo"]


@needs_make
def test_new_dependencies_are_installed_and_a_failure_then_is_not_forgotten(house: House) -> None:
    house.make("setup")
    later = (house.folder / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(house.folder / "pyproject.toml", (later, later))
    flag = house.flag("offline")
    assert house.make("setup").returncode != 0
    flag.unlink()
    os.utime(house.folder / "pyproject.toml", (later - 100, later - 100))
    assert house.make("setup").returncode == 0
    assert house.calls == ["venv", "install", "install", "install"]


@needs_make
def test_an_environment_that_is_there_is_completed_and_a_broken_one_made_anew(house: House) -> None:
    house.make("setup")
    keepsake = house.folder / ".venv" / "keepsake"
    keepsake.touch()
    (house.folder / ".venv" / ".installed").unlink()
    house.make("setup")
    assert keepsake.exists()
    (house.folder / ".venv" / ".installed").unlink()
    house.flag("no-pip")
    house.make("setup")
    assert not keepsake.exists()
    assert house.calls == ["venv", "install", "install", "venv", "install"]


@needs_make
def test_an_old_python_is_one_clear_line_and_leaves_nothing(house: House) -> None:
    house.flag("too-old")
    done = house.make("test")
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert line.startswith("error: Triptych needs Python 3.11 or newer")
    assert not (house.folder / ".venv").exists()


@needs_make
def test_make_alone_lists_the_targets(house: House) -> None:
    listed = house.make().stdout
    assert all(f"make {target} " in listed for target in ("demo", "test", "test-all", "lint", "format", "clean"))
    assert house.calls == []
