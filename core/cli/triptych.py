"""`triptych PACKAGE COMMAND ...` is `python -m PACKAGE.COMMAND ...`; `triptych` alone lists the commands."""

import ast
import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from core.cli import exits
from core.messages import nearest

PACKAGES = ("text", "vision", "decision", "benchmarks")


def main() -> None:
    """The console script."""
    exits.main(lambda: run(sys.argv[1:]))


def run(words: Sequence[str]) -> None:
    """Lists the commands, or runs the one that the first two words name. Raises ValueError for an unknown word."""
    if not words or words[0] in ("-h", "--help"):
        print(listing())
        return
    package, command = words[0], "".join(words[1:2])
    if package not in PACKAGES:
        raise ValueError(f"unknown word {package!r}; {nearest(package, PACKAGES)}")
    names = [name for name, _ in commands(package)]
    if not command:
        raise ValueError(f"triptych {package} needs a command, one of: {', '.join(names)}")
    if command not in names:
        raise ValueError(f"unknown command {command!r} of triptych {package}; {nearest(command, names)}")
    sys.argv = [command, *words[2:]]
    sys.path.append(os.getcwd())  # as `python -m` does: what a user names may be a module that lies there
    runpy.run_module(f"{package}.{command}", run_name="__main__", alter_sys=True)


def listing() -> str:
    """Every command with the first line of its docstring."""
    lines = ["usage: triptych PACKAGE COMMAND ...; with --help a command explains its options"]
    for package in PACKAGES:
        lines += ["", *(f"  {package} {name:<{30 - len(package)}} {summary}" for name, summary in commands(package))]
    return "\n".join(lines)


def commands(package: str) -> Iterator[tuple[str, str]]:
    """The modules of a package that run as programs, each with its summary; none is imported."""
    spec = find_spec(package)
    assert spec is not None
    folder = Path(next(iter(spec.submodule_search_locations or ())))
    for path in sorted([*folder.glob("*.py"), *folder.glob("*/__main__.py")]):
        source = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in source or path.name == "__main__.py":
            name = path.parent.name if path.name == "__main__.py" else path.stem
            yield name, (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
