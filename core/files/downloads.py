"""Published files: found under the data root, or downloaded there and verified."""

import os
import shutil
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from urllib.request import urlopen

from core.files.atomic import atomic_write, sha256

TIMEOUT = 30.0  # seconds without an answer before a download is given up


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


def _download(remote: Remote, target: Path, aside: Path) -> None:
    from tqdm import tqdm

    try:
        with urlopen(remote.url, timeout=TIMEOUT) as reply, aside.open("wb") as file:
            with tqdm.wrapattr(file, "write", total=reply.length, desc=target.name, disable=None) as watched:
                shutil.copyfileobj(reply, watched)
            if reply.length:  # bytes that were announced and did not arrive
                raise IncompleteRead(b"", reply.length)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ValueError(
            f"{remote.path} is missing and could not be downloaded from {remote.url} ({reason}): "
            f"put the file at {target}, or {remote.instead}"
        ) from error
    if (received := sha256(aside)) != remote.sha256:
        raise ValueError(
            f"{remote.url} returned something other than {remote.path} (sha256 {received[:16]}..., not "
            f"{remote.sha256[:16]}...), which was discarded: put the published file at {target}, or {remote.instead}"
        )
