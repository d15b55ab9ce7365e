"""Files and folders that are whole or absent: written beside their place, flushed to disk, then renamed."""

import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ABANDONED = 7 * 24 * 3600.0  # seconds after which what a killed process left aside is removed


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A free path beside `target` for the body to make a file or a folder at; on success it becomes `target`.

    What was made is flushed to disk, then renamed. If the body raises, it is removed and `target` stays as
    it was. A file replaces the one before it. A folder never does: if another process was first, its folder
    stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield aside
        for made in (*aside.rglob("*"), aside):
            _flush(made)
        _rename(aside, target)
    except OSError as error:
        if error.errno and not error.filename:  # a write does not know its file
            error.filename = str(target)
        raise
    finally:
        remove(aside)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces `path` by `text`, at once and durably."""
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rename(aside: Path, target: Path) -> None:
    try:
        os.replace(aside, target)
    except OSError as error:
        taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES) and target.is_dir()
        if not (taken and aside.is_dir()):
            raise
    _flush(target.parent)


def _flush(path: Path) -> None:
    if path.is_dir() and os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(folder: Path) -> None:
    for left in folder.glob(".*.part"):
        try:
            if time.time() - left.stat().st_mtime > ABANDONED:
                remove(left)
        except FileNotFoundError:  # another process swept it
            continue
