"""The origin of every figure (machine, versions, commit), and how figures are written down."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = ("torch", "torchvision", "numpy", "accelerate", "timm", "transformers", "gymnasium")


def provenance() -> dict[str, Any]:
    """Date (UTC), commit, machine and versions, JSON-ready; imports no library to find out."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": now, "commit": commit(), "machine": machine(), "versions": versions()}


def machine() -> dict[str, Any]:
    """`cpu` (model), `cores` this process may use, `memory_bytes`, `system`, `gpus` (name, memory)."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "gpus": _gpus(),
    }


def versions() -> dict[str, str]:
    """Python's version and those of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The checkout's commit, with a "+" behind it where tracked files differ; None outside of a checkout."""
    head = _output("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    changed = _output("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return f"{head}+" if head and changed else head


def committed(path: Path) -> str | None:
    """The commit that last changed a file, and its time, where the file is still as that left it; else None."""
    words = ("git", "-C", str(path.parent))
    if not path.exists() or _output(*words, "status", "--porcelain", "--ignored", "--", path.name):
        return None
    return _output(*words, "log", "-1", "--format=%h of %cI", "--", path.name)


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())):
        return found[1].strip()
    return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine()


def _gpus() -> list[str]:
    listed = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    return listed.splitlines() if listed else []


def _output(*command: str) -> str | None:
    """What a program prints, stripped; None where it is missing, fails, or prints nothing."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or None if done.returncode == 0 else None


def save(name: str, result: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write `folder/name.json` in one move: a reader finds the old result or the new one, never a half."""
    if not re.fullmatch(r"[a-z0-9_-]+", name):
        raise ValueError(f"name must be lower-case letters, digits, '-' and '_', got {name!r}")
    from core.files.atomic import write_text
    from core.files.json_files import as_json  # brings torch along, which a contestant may not want

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write_text(path, on_few_lines(as_json(portable(result))))
    return path


def portable(value: Any) -> Any:
    """A result without the folders of this machine, where a path keeps its last part alone, and of six digits."""
    if isinstance(value, Mapping):
        return {name: portable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [portable(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def on_few_lines(text: str, width: int = 120) -> str:
    """Indented JSON with every innermost object or list that fits into `width` on one line."""

    def joined(found: re.Match[str]) -> str:
        line = re.sub(r"\n\s*", " ", found[0])
        return line if len(line) <= width else found[0]

    return re.sub(r"[\[{]\n[^\[\]{}]*\n *[\]}]", joined, text)


def update(name: str, parts: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Like `save`, beside the parts that an earlier call wrote: each should hold its own provenance."""
    from core.files.json_files import read_json

    path = folder / f"{name}.json"
    before = read_json(path) if path.exists() else {}
    return save(name, {**before, **parts}, folder)


def number(value: float) -> str:
    """Four significant digits, thousands apart: 0.01234, 3.142, 12,345."""
    if value == 0 or 1e-4 <= abs(value) < 1000:
        return f"{value:.4g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2e}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned table that is Markdown as well: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = ["-" * max(widths[0], 3), *("-" * max(width - 1, 2) + ":" for width in widths[1:])]
    return "\n".join(_row(row, [len(dashes) for dashes in rule]) for row in (header, rule, *rows))


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
    return f"| {' | '.join(padded)} |"
