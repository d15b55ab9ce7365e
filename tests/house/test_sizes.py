"""Nothing is too long to be read."""

from __future__ import annotations

import ast
from collections import Counter

from benchmarks.imports import sources
from benchmarks.measure.record import ROOT

FILES = {str(file.relative_to(ROOT)): file for file in sources().values()}
LINES, FUNCTION, FOLDER, README = 320, 45, 15, 150


def lines(name: str) -> int:
    return len((ROOT / name).read_text("utf-8").splitlines())


def test_no_file_is_too_long() -> None:
    assert {name: lines(name) for name in FILES if lines(name) > LINES} == {}


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{name}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for name, file in FILES.items()
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None
    }
    assert {name: length for name, length in lengths.items() if length > FUNCTION} == {}


def test_no_folder_is_crowded() -> None:
    counts = Counter(str(file.parent) for file in FILES.values() if file.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > FOLDER} == {}


def test_the_readme_is_a_front_page() -> None:
    assert lines("README.md") <= README
