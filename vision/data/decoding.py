"""Image files decoded by worker processes whenever their pixels are needed, some batches ahead."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.cli.exits import RunFailure
from core.training.order import Batch, Indices
from vision.data.files import read_pixels
from vision.data.folder import Listing

MOST_WORKERS = 16
FILES_PER_WORKER = 256  # below, starting a worker takes longer than its work
CHUNK = 64  # files decoded together when all of them are

DecodedBatch = tuple[Tensor, Tensor, dict[int, str]]
"""Pixels uint8 (b, C, S, S), labels int64 (b,), and by index why a file cannot be decoded; its pixels are black."""


@dataclass(frozen=True, eq=False)
class Streamed(torch.utils.data.Dataset):
    """Images that stay in their files and are decoded whenever they are asked for.

    labels: int64 (N,). workers: processes that decode; default one per core, divided among this machine's ranks;
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

    def subset(self, indices: Indices) -> Streamed:
        """The images at `indices`, in that order."""
        return Streamed(self.listing.subset(indices), self.channels, self.side, self.workers)

    def sample(self, count: int) -> Tensor:
        """Pixels of `count` images, or of all if there are fewer, evenly spaced: uint8 (n, C, S, S)."""
        parts = chunks(evenly_spaced(len(self), count))
        return torch.cat([pixels for pixels, _ in self.batches(parts)])

    def batches(self, order: Iterable[Indices]) -> Iterator[Batch]:
        """For each array of indices in `order`, which may be endless: uint8 (b, C, S, S), int64 (b,).

        The workers end with the iterator. Raises RunFailure for a file that can no longer be decoded.
        """
        for pixels, labels, bad in self.decode(order):
            if bad:
                raise RunFailure(f"{next(iter(bad.values()))}, though it could be when the run began")
            yield pixels, labels

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
        return iter(loader)

    def __getitem__(self, indices: Indices) -> DecodedBatch:
        """What a worker does."""
        listing, channels, side = self.listing, self.channels, self.side
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


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the run ends its workers when it has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
