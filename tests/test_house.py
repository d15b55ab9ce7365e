"""The house stands: everything imports, light things stay light, set-up is done once and never by halves."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.cli.arguments import parse_fields
from core.training.command import parse

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("core", "text", "vision", "decision", "benchmarks")


def modules_of(package: str) -> list[str]:
    found = pkgutil.walk_packages([str(ROOT / package)], prefix=f"{package}.")
    return [package, *sorted(module.name for module in found)]


# ---------------------------------------------------------------------------------------------- imports


@pytest.mark.parametrize("module", [module for package in PACKAGES for module in modules_of(package)])
def test_every_module_imports_and_says_what_it_is(module: str) -> None:
    assert importlib.import_module(module).__doc__, f"{module} opens with no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_code_is_a_package(package: str) -> None:
    folders = {file.parent for file in (ROOT / package).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize(
    ("package", "heavy"),
    [
        ("core", {"accelerate", "timm", "torchvision", "matplotlib", "gymnasium", "tensorboard"}),
        ("text", {"timm", "torchvision", "matplotlib", "gymnasium", "sklearn", "datasets", "transformers"}),
        ("decision", {"timm", "torchvision", "matplotlib", "mujoco", "stable_baselines3", "minari"}),
        ("vision", {"timm", "torchvision", "matplotlib", "gymnasium", "sklearn", "PIL", "onnx", "accelerate"}),
    ],
)
def test_importing_a_package_leaves_heavy_libraries_alone(package: str, heavy: set[str]) -> None:
    code = (
        "import importlib, json, sys\n"
        f"for module in {modules_of(package)!r}: importlib.import_module(module)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert heavy & set(json.loads(done.stdout)) == set()


# ---------------------------------------------------------------------------------------------- README


def readme_commands() -> list[list[str]]:
    """Every command in the README's bash blocks, in words; empty where there is no README."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line.removeprefix("$ "), comments=True))]


OURS = [command[command.index("-m") :] for command in readme_commands() if "-m" in command]


def test_a_readme_shows_its_commands() -> None:
    if not (ROOT / "README.md").exists():
        pytest.skip("no README.md yet")
    assert ["make", "demo"] in readme_commands()
    assert ["make", "test"] in readme_commands()
    assert any(command[1] == "text.train" for command in OURS)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_make_targets_of_the_readme_exist() -> None:
    asked = {word for first, *rest in readme_commands() if first == "make" for word in rest if "=" not in word}
    assert asked <= targets()


@pytest.mark.parametrize("command", OURS, ids=" ".join)
def test_the_readmes_command_lines_are_understood(command: list[str]) -> None:
    """The module exists, and its own parser takes the arguments. `text.sample` reads a `SampleConfig`, and so on."""
    _, name, *arguments = command
    if name.partition(".")[0] not in PACKAGES:
        return
    module = importlib.import_module(name)
    panel, _, verb = name.rpartition(".")
    if verb == "train":
        presets = importlib.import_module(f"{panel}.presets").PRESETS
        if "--resume" not in arguments:  # whose settings are those of a folder that is not here
            parse(importlib.import_module(f"{panel}.config").TrainConfig, presets, arguments)
    elif settings := getattr(module, f"{verb.capitalize()}Config", None):
        options = [*itertools.dropwhile(lambda word: not word.startswith("--"), arguments)]
        parse_fields(settings(), options)


FIRST = {
    "runs/shakespeare": [
        ("text.train", "--steps 4 --sample 0"),
        ("text.evaluate", "--json"),
        ("text.sample", "--tokens 8"),
    ],
    "runs/cifar": [
        ("vision.train", "--steps 2 --batch-size 8"),
        ("vision.evaluate", "--json"),
        ("vision.predict", "--json"),
        ("vision.explain", "--layers last"),
    ],
    "runs/cartpole cartpole.npz": [
        ("decision.collect", "--train-steps 2048"),
        ("decision.train", "--steps 2 --batch-size 8 --eval-episodes 1"),
        ("decision.evaluate", "--json"),
        ("decision.rollout", "--max-steps 20"),
    ],
}
"""What a newcomer types first: the commands that name a run folder or its data, in order, and what makes them short."""


@pytest.mark.parametrize("named", FIRST)
def test_the_readmes_first_commands_run(named: str, tmp_path: Path, data_root: Path) -> None:
    short = FIRST[named]
    commands = [command[1:] for command in OURS if {*named.split()} & {*command}][: len(short)]
    assert [name for name, *_ in commands] == [name for name, _ in short]
    shutil.copy(ROOT / "docs" / "pictures" / "attention.png", tmp_path / "photo.jpg")
    for command, (_, extra) in zip(commands, short, strict=True):
        words = [sys.executable, "-m", *command, *extra.split()]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------------------------- set-up

STUB = """#!/bin/sh
# A Python for the Makefile to handle: notes what it is asked for, and fails where a file says so.
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
    assert all(f"make {target} " in listed for target in ("demo", "test", "lint", "format", "clean"))
    assert house.calls == []
