"""Image files decoded by worker processes: all of them once, into a cache, or batch after batch, as a stream."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.cli.errors import RunFailure
from core.files.atomic import atomic_write, remove, sha256
from vision.data.files import read_pixels
from vision.data.folder import Listing

Batch = tuple[Tensor, Tensor]
Indices = NDArray[np.int64]

FORMAT = 1  # of the folders written here, and of the pixels in them; part of their key
MOST_WORKERS = 16
FILES_A_WORKER = 256  # below, starting a worker takes longer than its work
TOGETHER = 64  # files decoded together when all are
ATTEMPTS = 3  # another process may have removed, as damaged, what this one had made


@dataclass(frozen=True, eq=False)
class Streamed:
    """Images that stay in their files and are decoded whenever they are asked for, some batches ahead.

    labels: int64 (N,). workers: processes that decode; default one a core, shared among this machine's ranks;
    0 decodes in this process.
    """

    listing: Listing
    channels: int
    side: int
    workers: int | None = None

    @property
    def labels(self) -> Tensor:
        return torch.from_numpy(self.listing.labels)

    def __len__(self) -> int:
        return len(self.listing)

    def to(self, device: torch.device | str) -> Streamed:
        """Itself: its batches come on the CPU."""
        return self

    def subset(self, indices: Indices) -> Streamed:
        """The images at `indices`, in that order."""
        return Streamed(self.listing.subset(indices), self.channels, self.side, self.workers)

    def some(self, number: int) -> Tensor:
        """Pixels of `number` images, or of all if there are fewer, spread evenly: uint8 (n, C, S, S)."""
        parts = spread(len(self), number)
        return torch.cat([pixels for pixels, _ in self.batches(_together(parts))])

    def batches(self, order: Iterable[Indices]) -> Iterator[Batch]:
        """For each array of indices in `order`, which may be endless: uint8 (b, C, S, S), int64 (b,).

        The workers end with the iterator. Raises RunFailure for a file that cannot be decoded (any more).
        """
        for pixels, labels, bad in _decode(self, order):
            if bad:
                raise RunFailure(f"{next(iter(bad.values()))}, though it could be when the run began")
            yield pixels, labels


class Decoded(NamedTuple):
    """What is known of the files of a listing once all have been decoded.

    moments: int64 (N, C, 2), the sums of an image's pixels and of their squares; 0 where it is bad.
    bad: why, in a sentence, by index. pixels: uint8 (N, C, S, S), memory-mapped; None if not kept.
    """

    moments: NDArray[np.int64]
    bad: dict[int, str]
    pixels: Tensor | None


def decode_all(images: Streamed, keep: Literal["pixels", "moments"], cache: Path) -> Decoded:
    """Every file decoded once: from the folder `cache` if that was done before, else now.

    What is kept there is found again by the files' paths, sizes and times of change; damaged, it is made anew.
    """
    folder = cache / images.listing.digest(FORMAT, images.channels, images.side, keep, place="here")[:32]
    for _ in range(ATTEMPTS):
        if decoded := _open(folder, keep):
            return decoded
        remove(folder)  # it is damaged, if it is there
        with atomic_write(folder) as aside:
            aside.mkdir()
            _make(aside, images, keep)
    raise OSError(f"{folder} was written but cannot be read back")


def moments(pixels: Tensor) -> Tensor:
    """uint8 (N, C, H, W) -> int64 (N, C, 2): each channel's sum of pixels and sum of squares."""
    parts = [torch.empty(0, pixels.shape[1], 2, dtype=torch.int64)]
    for part in pixels.flatten(2).split(256):
        values = part.double()  # holds every sum exactly
        sums = values.sum(-1), torch.linalg.vecdot(values, values)
        parts.append(torch.stack(sums, dim=-1).long())  # (n, C, 2)
    return torch.cat(parts)


def spread(images: int, number: int) -> Indices:
    """At most `number` indices below `images`, ascending, evenly spaced from the first on."""
    number = min(number, images)
    return np.arange(number) * images // max(1, number)


def processes_here() -> int:
    """How many ranks of this run share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


class _Files(torch.utils.data.Dataset):
    """Indices in, a batch out: what a worker does. Bad files are black, and told of."""

    def __init__(self, images: Streamed):
        self.images = images

    def __getitem__(self, indices: Indices) -> tuple[Tensor, Tensor, dict[int, str]]:
        listing, side, channels = self.images.listing, self.images.side, self.images.channels
        pixels = torch.zeros(len(indices), channels, side, side, dtype=torch.uint8)
        bad = {}
        for row, index in enumerate(indices.tolist()):
            try:
                pixels[row] = read_pixels(listing.folder / listing.files[index], channels, side)
            except OSError as error:
                bad[index] = f"{error.filename} cannot be read: {error.strerror}"
            except ValueError as error:
                bad[index] = str(error)
        return pixels, torch.from_numpy(listing.labels[indices]), bad


def _decode(images: Streamed, order: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor, dict[int, str]]]:
    from torch.utils.data import DataLoader

    workers = _workers(len(images)) if images.workers is None else images.workers
    return iter(
        DataLoader(
            _Files(images),
            sampler=order,
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_ignore_interrupts,
            generator=torch.Generator(),  # else every start would draw from the run's random numbers
        )
    )


def _together(indices: Indices) -> list[Indices]:
    return [indices[start : start + TOGETHER] for start in range(0, len(indices), TOGETHER)]


def _workers(files: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(1, cores // processes_here()), MOST_WORKERS, files // FILES_A_WORKER)


def _as_it_is(batch: Any) -> Any:
    return batch


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the run ends its workers when it has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _make(folder: Path, images: Streamed, keep: Literal["pixels", "moments"]) -> None:
    """Writes moments.npy, images.json and, if they are to be kept, pixels.npy into an empty folder."""
    from tqdm import tqdm

    shape = (len(images), images.channels, images.side, images.side)
    sums = np.zeros((*shape[:2], 2), np.int64)
    kept = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, shape) if keep == "pixels" else None
    parts = _together(np.arange(len(images)))
    reasons: dict[int, str] = {}
    with tqdm(total=len(images), unit="images", desc="decoding", delay=1, disable=None) as bar:
        for indices, (pixels, _, bad) in zip(parts, _decode(images, parts), strict=True):
            sums[indices] = moments(pixels).numpy()
            if kept is not None:
                kept[indices] = pixels.numpy()
            reasons |= bad
            bar.update(len(indices))
    del kept  # its last pages are written
    np.save(folder / "moments.npy", sums)
    hashes = {file.name: sha256(file) for file in folder.iterdir()}
    (folder / "images.json").write_text(json.dumps({"bad": reasons, "sha256": hashes}), encoding="utf-8")


def _open(folder: Path, keep: Literal["pixels", "moments"]) -> Decoded | None:
    """What is kept in a folder; None if there is nothing, or it is damaged."""
    try:
        meta = json.loads((folder / "images.json").read_text(encoding="utf-8"))
        bad = {int(index): str(reason) for index, reason in meta["bad"].items()}
        if any(sha256(folder / name) != digest for name, digest in meta["sha256"].items()):
            return None
        sums = np.load(folder / "moments.npy")
        pixels = np.load(folder / "pixels.npy", mmap_mode="c") if keep == "pixels" else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Decoded(sums, bad, None if pixels is None else torch.from_numpy(np.asarray(pixels)))
