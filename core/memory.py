"""The most memory that a process has held."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def peak_memory() -> int:
    """Largest resident memory of this process so far, bytes; 0 where the system does not tell (Windows).

    On Linux from the kernel's high-water mark: there `ru_maxrss` is handed down at a fork, and a small child
    of a large process would report its parent's.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return _largest_resident("RUSAGE_SELF")


def children_peak_memory() -> int:
    """Largest resident memory of any child that has been waited for, bytes; 0 where the system does not tell."""
    return _largest_resident("RUSAGE_CHILDREN")


def _largest_resident(who: str) -> int:
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    used = resource.getrusage(getattr(resource, who)).ru_maxrss  # kilobytes, but bytes on macOS
    return used if sys.platform == "darwin" else used * 1024
