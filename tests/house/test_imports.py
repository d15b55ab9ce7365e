"""Imports run one way and in no circle, light things stay light, and commands are not libraries."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.imports import PACKAGES, circles, layers, module_graph, part_graph, shown, sources
from benchmarks.measure.record import ROOT

MODULES = sources()
COMMANDS = {
    name
    for name, file in MODULES.items()
    if name.split(".")[0] in ("text", "vision", "decision") and '__name__ == "__main__"' in file.read_text("utf-8")
}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports_and_says_what_it_is(module: str) -> None:
    assert importlib.import_module(module).__doc__, f"{module} opens with no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_code_is_a_package(package: str) -> None:
    folders = {file.parent for file in MODULES.values() if file.relative_to(ROOT).parts[0] == package}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_a_packages_init_is_a_docstring_alone() -> None:
    inits = [file for file in MODULES.values() if file.name == "__init__.py"]
    assert inits
    assert [file for file in inits if len(ast.parse(file.read_text("utf-8")).body) > 1] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(module_graph()) == []


def test_no_module_imports_a_command() -> None:
    assert {"text.train", "vision.predict", "decision.rollout"} <= COMMANDS
    graph = {name: targets for name, targets in module_graph().items() if not name.startswith("benchmarks")}
    assert [(name, sorted(targets & COMMANDS)) for name, targets in graph.items() if targets & COMMANDS] == []


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
    modules = [name for name in MODULES if name.split(".")[0] == package]
    code = (
        "import importlib, json, sys\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert heavy & set(json.loads(done.stdout)) == set()


# ---------------------------------------------------------------------------------------------- the graph itself

TREE = {
    "core/a.py": "from __future__ import annotations\nimport os",
    "core/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from core.a import A",
    "core/room/c.py": "def late():\n    import core.b",
    "core/room/d.py": "from core.room import c",
    "text/e.py": "from core.room.d import D\nfrom text.f import F",
    "text/f.py": "def late():\n    from text import e",
}


def test_the_graph_counts_every_import_and_names_circles(tmp_path: Path) -> None:
    for name, code in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    modules = module_graph(tmp_path)
    assert modules["core.room.c"] == {"core.b"}
    assert circles(modules) == [["text.e", "text.f"]]
    parts = part_graph(modules)
    assert layers(parts) == [[["core.a"]], [["core.b"]], [["core.room"]], [["text.e", "text.f"]]]
    assert shown(parts).splitlines()[0].split() == ["3", "text.e", "<->", "text.f"]
