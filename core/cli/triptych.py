"""`triptych PACKAGE COMMAND ...` is `python -m PACKAGE.COMMAND ...`; `triptych` alone lists the commands.

The package may be left out of a command that only one of them has: `triptych tokenize`.
`triptych cache` lists what the panels prepared once and keep, and removes it with `--clear [KIND ...]`.
`triptych merge RUN` writes the weights of a run, which may be in shards, as one file.
"""

import ast
import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from core.cli import exits
from core.cli.arguments import Parser, run_folder
from core.files.caches import cached, clear, shown_size
from core.files.downloads import data_root
from core.messages import nearest

PACKAGES = ("text", "vision", "decision", "benchmarks")
CACHE, MERGE = "cache", "merge"


def main() -> None:
    """The console script."""
    exits.main(lambda: run(sys.argv[1:]))


def run(words: Sequence[str]) -> None:
    """Lists the commands, or runs the one that the first two words name. Raises ValueError for an unknown word."""
    if not words or words[0] in ("-h", "--help"):
        print(listing())
        return
    package, command = words[0], "".join(words[1:2])
    if package == CACHE:
        return manage_cache(words[1:])
    if package == MERGE:
        return merge(words[1:])
    if package not in PACKAGES and len(owners := [each for each in PACKAGES if package in dict(commands(each))]) == 1:
        return run([*owners, *words])
    if package not in PACKAGES:
        raise ValueError(f"unknown word {package!r}; {nearest(package, (*PACKAGES, CACHE, MERGE))}")
    names = [name for name, _ in commands(package)]
    if not command:
        raise ValueError(f"triptych {package} needs a command, one of: {', '.join(names)}")
    if command not in names:
        raise ValueError(f"unknown command {command!r} of triptych {package}; {nearest(command, names)}")
    sys.argv = [command, *words[2:]]
    sys.path.append(os.getcwd())  # as `python -m` does: what a user names may be a module that lies there
    runpy.run_module(f"{package}.{command}", run_name="__main__", alter_sys=True)


def manage_cache(words: Sequence[str]) -> None:
    """Lists the cache, or clears it. Raises ValueError for an unknown word or kind."""
    entries = cached()
    kinds = sorted({entry.kind for entry in entries})
    parser = Parser(prog="triptych cache", description="Lists what the panels prepared once and keep: it is made anew.")
    parser.add_argument("--clear", nargs="*", metavar="KIND", help="remove all of it, or that of these kinds")
    given, rest = parser.parse_known_args(words)
    doomed = getattr(given, "clear", ())
    if unknown := [*rest, *(kind for kind in doomed if kind not in kinds)]:
        raise ValueError(f"{unknown[0]!r} is not in the cache, which has: {', '.join(kinds) or 'nothing'}")
    if "clear" in given:
        entries = [entry for entry in entries if not doomed or entry.kind in doomed]
        clear(entries)
    print(*entries, sep="\n", end="\n" if entries else "")
    verb = "removed" if "clear" in given else "kept"
    print(f"{shown_size(sum(entry.size for entry in entries))} {verb} in {data_root() / CACHE}")


def merge(words: Sequence[str]) -> None:
    """Writes the weights of a run as one safetensors file. Raises ValueError for a run without them."""
    from core.files.atomic import atomic_write
    from core.files.tensors import WEIGHTS, write_tensors
    from core.training.checkpoints import load_weights
    from core.training.trained import checkpoint_base

    parser = Parser(
        prog="triptych merge RUN", description="Writes the weights of a run, in shards or not, as one file."
    )
    parser.add_argument("--checkpoint", default="best", help="best (the default), last, last-good, a step, or last-5")
    parser.add_argument("--out", metavar="FILE", help=f"where to; default {WEIGHTS} in the run folder")
    folder, rest = run_folder([*words], "triptych merge")
    given, more = parser.parse_known_args(rest)
    if more:
        raise ValueError(f"unexpected word {more[0]!r}; triptych merge takes --checkpoint and --out")
    if checkpoint_base(folder, given.checkpoint):
        raise ValueError(f"{folder} holds an adapter, and not the weights beside it: its panel's export merges them")
    weights, out = load_weights(folder, given.checkpoint), Path(getattr(given, "out", folder / WEIGHTS))
    with atomic_write(out) as aside:
        write_tensors(aside, weights)
    print(f"{len(weights)} tensors, {shown_size(out.stat().st_size)}, in {out}")


def listing() -> str:
    """Every command with the first line of its docstring."""
    lines = ["usage: triptych PACKAGE COMMAND ...; with --help a command explains its options"]
    for package in PACKAGES:
        lines += ["", *(f"  {package} {name:<{30 - len(package)}} {summary}" for name, summary in commands(package))]
    return "\n".join(
        [
            *lines,
            "",
            f"  {CACHE:<31} List what the panels keep of data that they prepared, or clear it.",
            f"  {MERGE:<31} Write the weights of a run as one file.",
        ]
    )


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
