"""The oldest versions that pyproject.toml allows, as constraints for pip.

python -m benchmarks.measure.floors > constraints.txt

Every `name>=version` of the dependencies and of the extra `dev` becomes `name==version.*`, so that bug fixes of that
version count; an extra such as `name[x]>=version` constrains `name`. Nothing but the standard library is imported.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def constraints(requirements: Iterable[str]) -> Iterator[str]:
    """`name==version.*` for each `name>=version`. Raises ValueError for a requirement without a floor."""
    for requirement in requirements:
        found = re.fullmatch(r"([\w.-]+)(\[[\w,-]+\])?>=([\d.]+)", requirement)
        if not found:
            raise ValueError(f"{requirement!r} in pyproject.toml must be NAME>=VERSION")
        version = found[3] if "." in found[3] else f"{found[3]}.0"
        yield f"{found[1]}=={version}.*"


def floors(pyproject: Path = PYPROJECT) -> list[str]:
    """The constraints of the dependencies and of the extra `dev`, each once."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return sorted(set(constraints([*project["dependencies"], *project["optional-dependencies"]["dev"]])))


if __name__ == "__main__":
    print(*floors(), sep="\n")
