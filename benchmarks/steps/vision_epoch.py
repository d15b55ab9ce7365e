"""An epoch over CIFAR-10 with its augmentation: our batches against torchvision's, with or without a model behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.peers.vision import torchvision_loader
from benchmarks.steps.vision import SHAPES, Learner, build
from core.files.downloads import data_root
from core.training.order import Batch
from vision.augmentation.augment import Augment
from vision.augmentation.config import AugmentConfig
from vision.data.batches import TrainingImages
from vision.data.load import load_data

Batches = Iterator[Batch]

VARIED = AugmentConfig(crop="shift", shift=4, flip="random", operations=2, strength=3.0, erase="random")
"""What `torchvision_loader` does: its magnitude 9 is of 30, so its rotations, say, are of 9 degrees at most, as here.

Where the two differ, the peer has less to do: its borders and what it erases are black, ours reflected and noise."""


def our_batches(images: int, batch: int, seed: int) -> Callable[[int], Batches]:
    """The batches of an epoch as `vision.train` makes them: by its number -> (images (B, 3, 32, 32), labels (B,))."""
    data = load_data("cifar10", size=32, validation=0)
    chosen = data.train.subset(np.arange(images))
    order = TrainingImages(chosen, batch, seed)
    augment = Augment(VARIED, data.preparation, SHAPES["plain"], batch, images, seed)
    steps = images // batch

    def epoch(number: int) -> Batches:
        for step in range(number * steps, (number + 1) * steps):
            yield from augment(order.batch(step), step)

    return epoch


def their_batches(images: int, batch: int, workers: int, seed: int) -> Callable[[int], Batches]:
    """The same from torchvision and a DataLoader."""
    torch.manual_seed(seed)
    loader = torchvision_loader(data_root() / "cifar10", images, batch, workers)
    return lambda number: iter(loader)


def epoch(
    seed: int, side: str, images: int, batch: int, shape: str, workers: int = 0, precision: str = "auto"
) -> dict[str, float]:
    """Images per second of one epoch, after another to warm up; `shape`: the model that learns from them, or "none".

    side: "ours" or "torchvision". Core-seconds are those of this process and its workers.
    """
    make = our_batches(images, batch, seed) if side == "ours" else their_batches(images, batch, workers, seed)
    learner = None if shape == "none" else Learner(build("ours", shape, seed), "off", precision)
    use_all(make(0), learner)
    wall, core = time.perf_counter(), busy_seconds()
    used = use_all(make(1), learner)
    wall, core = time.perf_counter() - wall, busy_seconds() - core
    return {"images": used, "images_per_core_second": used / core, "images_per_second": used / wall}


def use_all(batches: Batches, learner: Learner | None) -> int:
    """Learns from every batch, or only receives it; how many images there were."""
    used = 0
    for images, labels in batches:
        used += len(labels)
        if learner is not None:
            learner.step(images, labels)
    return used


def busy_seconds() -> float:
    """CPU time of this process and of its living children, theirs to a hundredth of a second."""
    import psutil

    children = psutil.Process().children(recursive=True)
    return time.process_time() + sum(sum(child.cpu_times()[:2]) for child in children)
