"""The images of one part of a data set as they are read, before any split."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from core.messages import notice
from core.training.order import Indices
from vision.data.batches import Images, ImageSet
from vision.data.cache import decode_all, moments
from vision.data.decoding import Streamed, local_ranks
from vision.data.folder import Listing, first_few
from vision.data.named import read_named

Storage = Literal["auto", "memory", "stream"]

CROP = 7 / 8  # of the side at which a folder's images are stored is the model's input: crops have room
MEMORY = 0.5  # of what is free, on a device too, may be taken by pixels
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, eq=False)
class PartImages:
    """One part. sums: `moments` of its images. side, crop: as in `Preparation`. digest: of all that it holds."""

    images: ImageSet
    classes: tuple[str, ...]
    sums: Tensor
    side: int
    crop: float
    digest: str


def read_named_part(name: str, part: Literal["train", "test"], channels: int | None, root: Path) -> PartImages:
    """A part of one of `vision.data.named.NAMES`; channels: None for its own."""
    pixels, labels, classes = read_named(name, part, root)
    pixels = with_channels(pixels, channels or pixels.shape[1])
    digest = hashlib.sha256(pixels.numpy().data)
    digest.update(labels.numpy().data)
    return PartImages(Images(pixels, labels), classes, moments(pixels), pixels.shape[-1], 1.0, digest.hexdigest())


def with_channels(pixels: Tensor, channels: int) -> Tensor:
    """uint8 (N, 1 or 3, H, W) -> (N, channels, H, W); grey is Pillow's luma, to the last bit."""
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1).contiguous()
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32).view(3, 1, 1)
    return torch.cat([((p * weights).sum(1, keepdim=True) + (1 << 15) >> 16).byte() for p in pixels.split(4096)])


def cached_side(size: int) -> int:
    """The side at which a folder's images are stored for a model of side `size`."""
    return round(size / CROP)


@dataclass(frozen=True)
class FolderReader:
    """How the files of a folder are read."""

    channels: int
    side: int
    storage: Storage
    skip_bad: bool
    root: Path

    def for_files(self, *listings: Listing | None) -> FolderReader:
        """The same, "auto" replaced by what suits these files together."""
        if self.storage not in ("auto", "memory", "stream"):
            raise ValueError(f"storage = {self.storage!r} is not one of: auto, memory, stream")
        if self.storage != "auto":
            return self
        files = sum(len(listing) for listing in listings if listing)
        fits = files * self.channels * self.side**2 <= MEMORY * available_memory() / local_ranks()
        return replace(self, storage="memory" if fits else "stream")

    def read(self, listing: Listing) -> PartImages:
        """Every file decoded once, now or earlier; files that cannot be are an error or left out."""
        streamed = Streamed(listing, self.channels, self.side)
        keep: Literal["pixels", "moments"] = "pixels" if self.storage == "memory" else "moments"
        sums, bad, pixels = decode_all(streamed, keep, self.root / "cache" / "images")
        images: ImageSet = streamed if pixels is None else Images(pixels, streamed.labels)
        if bad:
            good = self._leave_out(listing, bad)
            listing, sums, images = listing.subset(good), sums[good], images.subset(good)
        digest = listing.digest(self.channels, self.side)
        return PartImages(images, listing.classes, torch.from_numpy(sums), self.side, CROP, digest)

    def _leave_out(self, listing: Listing, bad: dict[int, str]) -> Indices:
        """Indices of the good files. Raises ValueError where bad ones are not to be skipped, or are a whole class."""
        reasons = f"{len(bad):,} of {len(listing):,} images: {first_few(list(bad.values()))}"
        if not self.skip_bad:
            raise ValueError(f"cannot decode {reasons}; --skip-bad leaves them out")
        good = np.setdiff1d(np.arange(len(listing)), list(bad))
        for label in np.setdiff1d(np.arange(len(listing.classes)), listing.labels[good]):
            raise ValueError(f"the class folder {listing.folder / listing.classes[label]} has only bad images")
        notice(f"left out {reasons}")
        return good


def available_memory() -> int:
    """Bytes that this process may still take: what is free, within the limit of its container."""
    import psutil

    limits = [int(psutil.virtual_memory().available)]
    for limit in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # no such limit
            limits.append(int(Path(limit).read_text()))
    return min(limits)
