"""Image files decoded by worker processes whenever their pixels are needed, some batches ahead."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.cli.exits import RunFailure
from core.files.atomic import sha256
from core.training.order import Batch, Indices
from vision.data.files import Layout, read_stored
from vision.data.folder import Listing

MOST_WORKERS = 16
FILES_PER_WORKER = 256  # below, starting a worker takes longer than its work
CHUNK = 64  # files decoded together when all of them are


class DecodedBatch(NamedTuple):
    """Files decoded together.

    pixels: uint8 (b, C, H, W), black where a file cannot be decoded. labels: int64 (b,). shown: float32 (b,), the
    share of its area that an image shows. contents: int64 (b,), a hash of the files' bytes, or 0.
    bad: by index, why a file cannot be decoded. unread: the same for errors of the file system, which may pass.
    """

    pixels: Tensor
    labels: Tensor
    shown: Tensor
    contents: Tensor
    bad: dict[int, str]
    unread: dict[int, str]


@dataclass(frozen=True, eq=False)
class Streamed(torch.utils.data.Dataset):
    """Images that stay in their files and are decoded whenever they are asked for.

    labels: int64 (N,). workers: processes that decode; default one per core, divided among this machine's ranks;
    0 decodes in this process. hashed: whether the files' bytes are hashed as well.
    """

    listing: Listing
    layout: Layout
    workers: int | None = None
    hashed: Literal["never", "always"] = "never"

    @property
    def labels(self) -> Tensor:
        return torch.from_numpy(self.listing.labels)

    def __len__(self) -> int:
        return len(self.listing)

    def subset(self, indices: Indices) -> Streamed:
        """The images at `indices`, in that order."""
        return replace(self, listing=self.listing.subset(indices))

    def sample(self, count: int) -> Tensor:
        """Pixels of `count` images, or of all if there are fewer, evenly spaced: uint8 (n, C, H, W)."""
        parts = chunks(evenly_spaced(len(self), count))
        return torch.cat([pixels for pixels, _ in self.batches(parts)])

    def batches(self, order: Iterable[Indices]) -> Iterator[Batch]:
        """For each array of indices in `order`, which may be endless: uint8 (b, C, H, W), int64 (b,).

        The workers end with the iterator. Raises RunFailure for a file that can no longer be decoded.
        """
        for batch in self.decode(order):
            for reason in (batch.bad | batch.unread).values():
                raise RunFailure(f"{reason}, though it could be when the run began")
            yield batch.pixels, batch.labels

    def decode(self, order: Iterable[Indices]) -> Iterator[DecodedBatch]:
        """The same, with the reasons of files that cannot be decoded."""
        from torch.utils.data import DataLoader

        loader = DataLoader(
            self,
            sampler=order,
            batch_size=None,
            num_workers=default_workers(len(self)) if self.workers is None else self.workers,
            worker_init_fn=_ignore_interrupts,
            generator=torch.Generator(),  # else every start would draw from the run's random numbers
        )
        with _interrupts_held():
            return iter(loader)

    def __getitem__(self, indices: Indices) -> DecodedBatch:
        """What a worker does."""
        layout, count = self.layout, len(indices)
        pixels = torch.zeros(count, layout.channels, *layout.sides, dtype=torch.uint8)
        shown, contents = torch.ones(count), torch.zeros(count, dtype=torch.int64)
        bad, unread = dict[int, str](), dict[int, str]()
        for row, index in enumerate(indices.tolist()):
            path = self.listing.folder / self.listing.files[index]
            try:
                pixels[row], shown[row] = read_stored(path, layout)
                contents[row] = content_hash(path) if self.hashed == "always" else 0
            except OSError as error:
                unread[index] = f"{path} cannot be read: {error.strerror}"
            except ValueError as error:
                bad[index] = str(error)
        return DecodedBatch(pixels, torch.from_numpy(self.listing.labels[indices]), shown, contents, bad, unread)


def content_hash(path: Path) -> int:
    """64 bits of a file's SHA-256, signed."""
    return int.from_bytes(bytes.fromhex(sha256(path)[:16]), "big", signed=True)


def chunks(indices: Indices) -> list[Indices]:
    """Indices in groups that are decoded together."""
    return [indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK)]


def evenly_spaced(images: int, count: int) -> Indices:
    """At most `count` indices below `images`, ascending, evenly spaced from the first on."""
    count = min(count, images)
    return np.arange(count) * images // max(1, count)


def default_workers(files: int) -> int:
    """How many processes decode so many files."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(1, cores // local_ranks()), MOST_WORKERS, files // FILES_PER_WORKER)


def local_ranks() -> int:
    """How many ranks of this run share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the workers are started: forked ones start with it held, and then ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the run ends its workers when it has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
