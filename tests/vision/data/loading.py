"""Data sets loaded into a folder of the test's own, and compared."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vision.data.batches import Images
from vision.data.load import Data

Load = Callable[..., Data]


def pixels(images: object) -> torch.Tensor:
    assert isinstance(images, Images)
    return images.pixels


def each(images: object) -> list[int]:
    """A number for each image, by which it is known."""
    return [hash(image.tobytes()) for image in pixels(images).numpy()]


def same(one: Data, other: Data) -> bool:
    parts = [(getattr(data, part) for data in (one, other)) for part in ("train", "validation")]
    return one.fingerprint == other.fingerprint and all(
        torch.equal(pixels(a), pixels(b)) and torch.equal(a.labels, b.labels) for a, b in parts
    )
