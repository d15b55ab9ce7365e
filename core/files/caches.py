"""What the panels prepared once and keep: below the data root, in `cache/KIND/`, each in a folder named by a hash."""

import re
import stat
import time
from pathlib import Path
from typing import NamedTuple

from core.files.atomic import remove
from core.files.downloads import data_root

NAME = re.compile(r"[0-9a-f]{32}|hashes")
"""Names of what the panels write there; whatever else lies there is not ours."""


class Entry(NamedTuple):
    """One thing that is kept."""

    path: Path
    kind: str  # text, images, ...
    size: int  # bytes
    changed: float  # seconds since 1970

    def __str__(self) -> str:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.changed))
        return f"{shown_size(self.size):>10}  {day}  {self.path}"


def cached(root: Path | None = None) -> list[Entry]:
    """All that is kept, by kind, the largest first."""
    found = [_entry(path) for path in ((root or data_root()) / "cache").glob("*/*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda entry: (entry.kind, -entry.size))


def clear(entries: list[Entry]) -> None:
    """Removes them, and the folders of kinds that are empty then."""
    for entry in entries:
        remove(entry.path)
    for folder in {entry.path.parent for entry in entries}:
        if not any(folder.iterdir()):
            folder.rmdir()


def shown_size(size: float) -> str:
    """Bytes for people to read."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} GB"


def _entry(path: Path) -> Entry:
    statuses = [each.lstat() for each in (path, *path.rglob("*"))]
    size = sum(status.st_size for status in statuses if not stat.S_ISDIR(status.st_mode))
    return Entry(path, path.parent.name, size, max(status.st_mtime for status in statuses))
