"""What README and docs/ show can be typed: commands are understood, the first ones run, and so does the Python."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks.imports import PACKAGES
from benchmarks.measure.record import ROOT
from core.cli.arguments import parse_fields
from core.training.command import parse
from tests.house.documents import command_lines, module_commands, snippets

COMMANDS = [command for command in module_commands() if command[0].partition(".")[0] in PACKAGES]


def test_the_readme_opens_with_its_two_commands() -> None:
    assert command_lines()[:2] == [["make", "demo"], ["make", "test"]]


def test_make_targets_that_are_shown_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {word for first, *rest in command_lines() if first == "make" for word in rest if "=" not in word}
    assert asked <= targets


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    links = {(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text("utf-8"))}
    assert links
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_lines_are_understood(command: list[str]) -> None:
    """The module exists, and its own parser takes the arguments. `text.sample` reads a `SampleConfig`, and so on."""
    name, *arguments = command
    panel, _, verb = name.rpartition(".")
    if panel == "benchmarks":
        main = f"{name}.__main__"
        runs = importlib.util.find_spec(name).submodule_search_locations is None  # type: ignore[union-attr]
        importlib.import_module(name if runs else main).parse(arguments)
    elif verb == "train":
        if panel == "text" and "--init-from" in arguments:  # whose weights are not here, and bring the model's shape
            del arguments[(place := arguments.index("--init-from")) : place + 2]
        presets = importlib.import_module(f"{panel}.presets").PRESETS
        if "--resume" not in arguments:  # whose settings are those of a folder that does not exist
            parse({}, presets, arguments)
    elif settings := getattr(importlib.import_module(name), f"{verb.capitalize()}Config", None):
        options = [*itertools.dropwhile(lambda word: not word.startswith("--"), arguments)]
        parse_fields(settings(), options)


def test_console_scripts_lead_to_functions() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("scripts", {})
    assert set(scripts) == {"triptych"}
    for entry in scripts.values():
        module, _, function = entry.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


# ---------------------------------------------------------------------------------------------- what is run

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


def run(folder: Path, *words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SDL_VIDEODRIVER": "dummy"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("named", FIRST)
def test_the_first_commands_of_each_panel_run(named: str, tmp_path: Path, data_root: Path) -> None:
    short = FIRST[named]
    commands = [command for command in COMMANDS if {*named.split()} & {*command}][: len(short)]
    assert [name for name, *_ in commands] == [name for name, _ in short]
    shutil.copy(ROOT / "docs" / "pictures" / "attention.png", tmp_path / "photo.jpg")
    for command, (_, extra) in zip(commands, short, strict=True):
        run(tmp_path, "-m", *command, *extra.split())


TINY = "--steps 2 --batch-size 4 --model.core.dim 16 --model.core.depth 1 --model.core.n-heads 2"
MADE = {
    "runs/shakespeare": f"text.train char-cpu --data text.txt {TINY} --model.context 32 --sample 0",
    "runs/cartpole": f"decision.train cartpole --data cartpole.npz {TINY} --eval-episodes 1 --model.context 4",
    "runs/cifar": f"vision.train vit-digits --data digits {TINY}",
}
"""How the run folders that snippets name are made in small."""


@pytest.mark.parametrize("page", snippets())
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    """Its snippets one after another, as one program, in a folder with tiny runs of the names that they use."""
    code = "\n\n".join(snippets()[page])
    (tmp_path / "text.txt").write_text("To be, or not to be, that is the question:\nWhether 'tis nobler. ROMEO:\n" * 40)
    if "runs/cartpole" in code:
        run(tmp_path, *"-m decision.collect --env CartPole-v1 --steps 300 --out cartpole.npz".split())
    for out, command in MADE.items():
        if out in code:
            run(tmp_path, "-m", *command.split(), "--out", out)
    run(tmp_path, "-c", code)
