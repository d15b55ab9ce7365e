"""From images to batches of pixels: to train on, in another order each epoch, and to evaluate, each image once.

Every training batch is a pure function of (seed, step, rank). Pixels are taken on the device that holds them or,
where they are too many to be held, decoded ahead of their use; the batches are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

import numpy as np
import torch
from torch import Tensor

from core.devices import to_device
from core.training.order import Batch, Indices, share, shuffled
from vision.data.decoding import Streamed, evenly_spaced


@dataclass(frozen=True, eq=False)
class Images:
    """Images in memory, all of one shape. pixels: uint8 (N, C, H, W). labels: int64 (N,). files: if they have any."""

    pixels: Tensor
    labels: Tensor
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Images:
        """The same images on another device, where their batches are then made."""
        return Images(self.pixels.to(device), self.labels.to(device), self.files)

    def subset(self, indices: Indices) -> Images:
        """The images at `indices`, in that order."""
        return Images(*self._take(indices), tuple(self.files[i] for i in indices) if self.files else ())

    def sample(self, count: int) -> Tensor:
        """Pixels of `count` images, or of all if there are fewer, evenly spaced: uint8 (n, C, H, W)."""
        return self._take(evenly_spaced(len(self), count))[0]

    def batches(self, order: Iterable[Indices]) -> Iterator[Batch]:
        """For each array of indices in `order`, which may be endless: uint8 (b, C, H, W), int64 (b,)."""
        return map(self._take, order)

    def _take(self, indices: Indices) -> tuple[Tensor, Tensor]:
        rows = to_device(torch.from_numpy(indices), self.labels.device)
        return self.pixels.index_select(0, rows), self.labels.index_select(0, rows)


ImageSet = Images | Streamed


def image_names(images: ImageSet) -> Sequence[str]:
    """The name of each image: its path in its folder, or its number where it has no file."""
    files = images.files if isinstance(images, Images) else images.listing.files
    return files or [str(number) for number in range(len(images))]


class TrainingImages:
    """Training batches in which every image appears once an epoch.

    batch_size: images of one optimiser step, over all processes and micro-batches.
    Raises ValueError for a batch size below 1.
    """

    def __init__(self, images: ImageSet, batch_size: int, seed: int = 0):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self._batches: Iterator[Batch] = iter(())
        self._next: tuple[int, ...] = ()  # the arguments with which `_batches` continues

    def batch(self, step: int, rank: int = 0, world: int = 1, accumulate: int = 1) -> list[Batch]:
        """The micro-batches of a rank at a step: `accumulate` pairs of uint8 (b, C, H, W) and int64 (b,).

        b = batch_size / (world * accumulate); together, the ranks' micro-batches are one global batch, whatever
        their number. Steps may be asked for in any order; streamed ones are prepared ahead as long as they are
        consecutive. Raises ValueError if the batch does not divide.
        """
        if self._next != (step, rank, world, accumulate):
            whole = partial(shuffled, self.seed, batch_size=self.batch_size, items=len(self.images))
            self._batches = self.images.batches(_from_step(step, whole, rank, world, accumulate))
        self._next = (step + 1, rank, world, accumulate)
        return [next(self._batches) for _ in range(accumulate)]


def _from_step(step: int, whole: Callable[[int], Indices], rank: int, world: int, accumulate: int) -> Iterator[Indices]:
    """A rank's micro-batches from a step on, without end. Holds no TrainingImages, or its workers would outlive it."""
    for later in count(step):
        yield from share(whole(later), rank, world, accumulate)


def evaluation_batches(images: ImageSet, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """A rank's part of the images in order, in batches; over all ranks each image once, whatever the remainder.

    Yields uint8 (b, C, H, W) and int64 (b,), b <= batch_size. Ranks may get different numbers of images and
    batches, also none. Raises ValueError for a batch size below 1 or a rank that is not in the world.
    """
    if batch_size < 1 or not 0 <= rank < world:
        raise ValueError(f"batch_size must be positive and rank in 0..{world - 1}, got {batch_size} and {rank}")
    first, last = (len(images) * r // world for r in (rank, rank + 1))
    return images.batches([np.arange(i, min(i + batch_size, last)) for i in range(first, last, batch_size)])
