"""Files that are whole or absent: written aside, flushed, renamed; downloaded files verified as well."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from pathlib import Path

BLOCK = 1 << 18  # bytes read at once
TIMEOUT = 30.0  # seconds without an answer before a download is given up
ABANDONED = 7 * 24 * 3600.0  # seconds after which what a killed process left aside is removed


@dataclass(frozen=True)
class Remote:
    """A published file.

    path: where it lies under the data root, with `/`.
    url: its public home.
    sha256: of the whole file, in hexadecimal.
    instead: what to do without a network, as the end of the sentence "..., or ...".
    """

    path: str
    url: str
    sha256: str
    instead: str


def data_root() -> Path:
    """The folder that data is looked for in: `$TRIPTYCH_DATA`, by default `~/.cache/triptych`."""
    return Path(os.environ.get("TRIPTYCH_DATA") or "~/.cache/triptych").expanduser()


def fetch(remote: Remote, root: Path | None = None) -> Path:
    """Path of a published file under `root` (default: `data_root()`), downloaded if it is not there.

    An interrupted download leaves nothing. Raises ValueError if the file there, or what arrived, is not the
    published one, or if it cannot be reached: the message then says where to put it by hand.
    """
    target = (root or data_root()) / remote.path
    if not target.exists():
        with atomic_write(target) as aside:
            _download(remote, target, aside)
    elif sha256(target) != remote.sha256:
        raise ValueError(
            f"{target} is not the published file (its sha256 is not {remote.sha256[:16]}...): "
            f"remove it to have it downloaded from {remote.url}"
        )
    return target


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        _flush(aside)
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


def _download(remote: Remote, target: Path, aside: Path) -> None:
    digest = hashlib.sha256()
    with aside.open("wb") as file:
        for block in _blocks(remote, target):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != remote.sha256:
        raise ValueError(
            f"what {remote.url} sent is not {remote.path} (sha256 {digest.hexdigest()[:16]}... in place of "
            f"{remote.sha256[:16]}...) and was discarded: put the published file at {target}, "
            f"or {remote.instead}"
        )


def _blocks(remote: Remote, target: Path) -> Iterator[bytes]:
    from tqdm import tqdm

    try:
        with urllib.request.urlopen(remote.url, timeout=TIMEOUT) as reply:
            with tqdm(total=reply.length, unit="B", unit_scale=True, desc=target.name, disable=None) as bar:
                while block := reply.read(BLOCK):
                    bar.update(len(block))
                    yield block
            if reply.length:  # bytes that were announced and did not come
                raise IncompleteRead(b"", reply.length)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ValueError(
            f"{remote.path} is missing and could not be downloaded from {remote.url} ({reason}): "
            f"put the file at {target}, or {remote.instead}"
        ) from error


def _rename(aside: Path, target: Path) -> None:
    try:
        os.replace(aside, target)
    except OSError as error:
        taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES) and target.is_dir()
        if not (taken and aside.is_dir()):
            raise
    _flush_entries(target.parent)


def _flush(path: Path) -> None:
    files = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    for file in files:
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())
    for folder in {file.parent for file in files if path.is_dir()}:
        _flush_entries(folder)


def _flush_entries(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
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
