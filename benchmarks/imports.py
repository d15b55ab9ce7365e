"""The import graph: which parts of the project stand on which, printed by layer.

python -m benchmarks.imports [--modules] [--root FOLDER]

A part is a folder inside one of the top-level packages, or a file at the top of one. The lowest layer imports nothing
of this project; every other part stands one layer above the highest part that it imports. Folders whose files import
each other are printed together, joined by "<->". A circle of modules is an error: it is named, and the exit code is 1.
Every import counts, those under TYPE_CHECKING and inside functions as well. The sources are parsed, not imported.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cache
from pathlib import Path
from textwrap import fill

from benchmarks.measure.options import parser_of
from benchmarks.measure.record import ROOT
from core.cli.exits import RunFailure, main

PACKAGES = ("core", "text", "vision", "decision", "benchmarks")
Graph = Mapping[str, Set[str]]


def sources(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    files = sorted(file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imported(file: Path) -> Iterator[str]:
    """The full names that a file imports, anywhere in it: `a.b` for `import a.b`, `a.b.c` for `from a.b import c`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_graph(root: Path = ROOT) -> Graph:
    """For each module, the modules of this project that it imports."""
    files = sources(root)
    return {module: {*_known(imported(file), files)} - {module} for module, file in files.items()}


def _known(names: Iterator[str], files: Mapping[str, Path]) -> Iterator[str]:
    for name in names:
        module = name if name in files else name.rpartition(".")[0]
        if module in files:
            yield module


def part_graph(modules: Graph) -> Graph:
    """The graph of the parts: a folder's modules taken together, but for those at the top of a package."""
    parts: dict[str, set[str]] = {}
    for module, targets in modules.items():
        name = part(module)
        parts.setdefault(name, set()).update({part(target) for target in targets} - {name})
    return parts


def part(module: str) -> str:
    """`core.training` for `core.training.run`, and a module at the top of its package itself."""
    return ".".join(module.split(".")[:2])


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that reach each other: strongly connected components of more than one node, sorted."""
    return [group for group in components(graph) if len(group) > 1]


def components(graph: Graph) -> list[list[str]]:
    """Strongly connected components, each of them sorted."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names = sorted(graph)
    place = {name: index for index, name in enumerate(names)}
    edges = [(place[name], place[target]) for name in names for target in graph[name]]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    adjacency = coo_array(([1] * len(edges), (rows, columns)), shape=(len(names), len(names)))
    count, labels = connected_components(adjacency, connection="strong")
    return sorted([name for name, label in zip(names, labels, strict=True) if label == index] for index in range(count))


def layers(graph: Graph) -> list[list[list[str]]]:
    """Components by the longest path to a component that imports nothing: layer 0 first."""
    groups = components(graph)
    home = {name: index for index, group in enumerate(groups) for name in group}

    @cache
    def rank(index: int) -> int:
        below = {home[target] for name in groups[index] for target in graph[name]} - {index}
        return 1 + max(map(rank, below), default=-1)

    ranks = [rank(index) for index in range(len(groups))]
    return [
        [group for group, own in zip(groups, ranks, strict=True) if own == layer] for layer in range(max(ranks) + 1)
    ]


def shown(graph: Graph) -> str:
    """The layers as text, the highest at the top."""
    lines = []
    for layer, groups in enumerate(layers(graph)):
        names = ", ".join(" <-> ".join(group) for group in groups if group[0] not in PACKAGES)
        lines.append(fill(names, 112, initial_indent=f"{layer:>3}  ", subsequent_indent=" " * 5))
    return "\n".join(reversed(lines))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = parser_of("imports", __doc__)
    parser.add_argument("--modules", action="store_true", help="every module instead of the parts")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to read")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    """Print the layers; RunFailure where modules import each other in a circle."""
    modules = module_graph(options.root)
    print(shown(modules if options.modules else part_graph(modules)))
    if found := circles(modules):
        raise RunFailure("imports in a circle: " + "; ".join(" <-> ".join(group) for group in found))


if __name__ == "__main__":
    main(lambda: run(parse()))
