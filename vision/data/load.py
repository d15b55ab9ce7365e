"""From a name or a folder to training and validation images, and, by another door, to test images."""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from core.files.downloads import data_root
from core.messages import nearest, notice
from vision.data.batches import Images, ImageSet, TrainingImages, evaluation_batches
from vision.data.folder import Listing, first_few, list_part
from vision.data.named import NAMES, held_out, read_named
from vision.data.preparation import Preparation
from vision.data.stream import Indices, Streamed, decode_all, moments, processes_here

__all__ = [
    "Data",
    "ImageSet",
    "Images",
    "Preparation",
    "TrainingImages",
    "evaluation_batches",
    "load_data",
    "load_test",
]

Storage = Literal["auto", "memory", "stream"]

CROP = 7 / 8  # of the side that a folder's images are stored at is seen: crops have room
HELD_OUT = 0.1  # of the training images, for validation
MEMORY = 0.5  # of what is free, on a device too, may be taken by pixels
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, eq=False)
class Data:
    """What a run learns from. fingerprint: SHA-256 by which the training images are known to be the same."""

    name: str
    train: ImageSet
    validation: ImageSet
    preparation: Preparation
    fingerprint: str

    def training(self, batch_size: int, seed: int, device: torch.device) -> TrainingImages:
        """Training batches, made on the device where half of its free memory holds all training images."""
        images = self.train
        if isinstance(images, Images) and images.pixels.nbytes <= MEMORY * _free_on(device):
            images = images.to(device)
        return TrainingImages(images, batch_size, seed)


def load_data(
    name: str,
    *,
    size: int,
    channels: int | None = None,
    validation: float | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    storage: Storage = "auto",
    root: Path | None = None,
) -> Data:
    """Training and validation images; the test part is not read.

    name: one of `vision.data.named.NAMES`, under `root` (default: `data_root()`) or downloaded, or a folder (see
        `vision.data.folder.list_part`).
    size: side of the model's images, in pixels. A folder's are stored as squares of 8/7 of that; those of a
        named set keep the size they come in.
    channels: 1 (grey) or 3; default that of the named set, or 3 for a folder.
    validation: how many training images, or which fraction of them, are held out, drawn with `seed`, each class
        by its share; default a folder's own validation part, or else a tenth. 0 is none.
    skip_bad: leave out files of a folder that cannot be decoded, with a notice, in place of an error.
    storage: a folder's pixels in "memory", from a cache on disk that is made when they are first decoded, or
        decoded again whenever they are needed, "stream"; "auto" is memory where half of what is free suffices.

    Raises ValueError of one sentence for bad input.
    """
    root = root or data_root()
    if channels not in (None, 1, 3):
        raise ValueError(f"channels = {channels!r} must be 1 or 3")
    if name in NAMES:
        return _split(name, _named_part(name, "train", channels, root), validation, seed)
    train, own = _list(name, "train"), _list(name, "validation")
    assert train is not None
    reader = _Reader(channels or 3, cached_side(size), storage, skip_bad, root).settled(train, own)
    if own is None or validation == 0:
        return _split(name, reader.read(train), validation, seed)
    if validation is not None:
        raise ValueError(f"validation = {validation!r} has no effect: {own.folder} holds the validation images")
    _check_classes(own, train.classes, str(train.folder))
    data = _split(name, reader.read(train), 0, seed)
    return Data(name, data.train, reader.read(own).images, data.preparation, data.fingerprint)


def load_test(
    name: str, preparation: Preparation, *, skip_bad: bool = False, storage: Storage = "auto", root: Path | None = None
) -> ImageSet:
    """The test images of what `load_data` takes, stored as those that the preparation comes from.

    The only door to them. Raises ValueError of one sentence: there are none, or they have other classes.
    """
    root = root or data_root()
    if name in NAMES:
        part = _named_part(name, "test", preparation.channels, root)
        if part.classes != preparation.classes:
            raise ValueError(f"{name} has other classes than the model, which knows {', '.join(preparation.classes)}")
        return part.images
    listing = _list(name, "test")
    if listing is None:
        raise ValueError(f"{name} has no test images: they are looked for in {Path(name) / 'test'}")
    _check_classes(listing, preparation.classes, "the model")
    reader = _Reader(preparation.channels, preparation.side, storage, skip_bad, root).settled(listing)
    return reader.read(listing).images


def cached_side(size: int) -> int:
    """The side at which a folder's images are stored for a model of side `size`."""
    return round(size / CROP)


def statistics(sums: Tensor, area: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, in 0..1, from int64 (N, C, 2) of `moments` of `area` pixels each.

    Exact but for the last rounding. A channel that never changes gets the deviation 1/255.
    """
    n = len(sums) * area
    totals = [(int(s), int(q)) for s, q in sums.sum(0).tolist()]
    mean = tuple(s / (n * 255) for s, _ in totals)
    std = tuple((math.sqrt(n * q - s * s) or n) / (n * 255) for s, q in totals)
    return mean, std


@dataclass(frozen=True)
class _Part:
    """A part as it was read, before any split. sums: `moments` of its images. digest: of all that it holds."""

    images: ImageSet
    classes: tuple[str, ...]
    sums: Tensor
    side: int
    crop: float
    digest: str


def _split(name: str, part: _Part, validation: float | None, seed: int) -> Data:
    """Training and validation images from one part."""
    labels = part.images.labels.numpy()
    held = held_out(labels, _number_held_out(validation, len(labels)), seed)
    kept = np.setdiff1d(np.arange(len(labels)), held)
    for label, left in enumerate(np.bincount(labels[kept], minlength=len(part.classes))):
        if not left:
            raise ValueError(
                f"{len(held)} images held out for validation leave none of {part.classes[label]!r} to train on: "
                f"hold out fewer, or add images"
            )
    mean, std = statistics(part.sums[torch.from_numpy(kept)], part.side**2)
    preparation = Preparation(part.classes, part.sums.shape[1], mean, std, part.side, part.crop)
    fingerprint = hashlib.sha256(part.digest.encode() + kept.tobytes()).hexdigest()
    return Data(name, part.images.subset(kept), part.images.subset(held), preparation, fingerprint)


def _number_held_out(validation: float | None, images: int) -> int:
    if validation is None:
        validation = HELD_OUT
    number = max(1, round(validation * images)) if 0 < validation < 1 else validation
    if not (0 <= number < images and number == int(number)):
        raise ValueError(f"validation = {validation!r} must be a number of images below {images:,}, or a fraction of 1")
    return int(number)


def _named_part(name: str, part: Literal["train", "test"], channels: int | None, root: Path) -> _Part:
    pixels, labels, classes = read_named(name, part, root)
    pixels = _with_channels(pixels, channels or pixels.shape[1])
    digest = hashlib.sha256(pixels.numpy().data)
    digest.update(labels.numpy().data)
    return _Part(Images(pixels, labels), classes, moments(pixels), pixels.shape[-1], 1.0, digest.hexdigest())


def _with_channels(pixels: Tensor, channels: int) -> Tensor:
    """uint8 (N, 1 or 3, H, W) -> (N, channels, H, W); grey is the luma that Pillow takes, to the last bit."""
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1).contiguous()
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32).view(3, 1, 1)
    return torch.cat([((p * weights).sum(1, keepdim=True) + (1 << 15) >> 16).byte() for p in pixels.split(4096)])


def _list(name: str, part: Literal["train", "validation", "test"]) -> Listing | None:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ValueError(f"there is no folder {name!r}, and no image set of that name; {nearest(name, NAMES)}")
    return list_part(folder, part)


def _check_classes(listing: Listing, known: tuple[str, ...], owner: str) -> None:
    if listing.classes != known:
        different = sorted(set(listing.classes) ^ set(known))
        raise ValueError(f"{listing.folder} has other classes than {owner}: {first_few(different)}")


@dataclass(frozen=True)
class _Reader:
    """How the files of a folder are read."""

    channels: int
    side: int
    storage: Storage
    skip_bad: bool
    root: Path

    def settled(self, *listings: Listing | None) -> _Reader:
        """The same, having chosen what "auto" is for these files together."""
        if self.storage not in ("auto", "memory", "stream"):
            raise ValueError(f"storage = {self.storage!r} is not one of: auto, memory, stream")
        if self.storage != "auto":
            return self
        files = sum(len(listing) for listing in listings if listing)
        fits = files * self.channels * self.side**2 <= MEMORY * available_memory() / processes_here()
        return _Reader(self.channels, self.side, "memory" if fits else "stream", self.skip_bad, self.root)

    def read(self, listing: Listing) -> _Part:
        """Every file decoded once, now or on an earlier occasion; bad ones named or left out."""
        streamed = Streamed(listing, self.channels, self.side)
        keep: Literal["pixels", "moments"] = "pixels" if self.storage == "memory" else "moments"
        sums, bad, pixels = decode_all(streamed, keep, self.root / "cache" / "images")
        images: ImageSet = streamed if pixels is None else Images(pixels, streamed.labels)
        if bad:
            kept = self._without(listing, bad)
            listing, sums, images = listing.subset(kept), sums[kept], images.subset(kept)
        digest = listing.digest(self.channels, self.side)
        return _Part(images, listing.classes, torch.from_numpy(sums), self.side, CROP, digest)

    def _without(self, listing: Listing, bad: dict[int, str]) -> Indices:
        reasons = f"{len(bad):,} of {len(listing):,} images: {first_few(list(bad.values()))}"
        if not self.skip_bad:
            raise ValueError(f"cannot decode {reasons}; --skip-bad leaves them out")
        kept = np.setdiff1d(np.arange(len(listing)), list(bad))
        for label in np.setdiff1d(np.arange(len(listing.classes)), listing.labels[kept]):
            raise ValueError(f"the class folder {listing.folder / listing.classes[label]} has no image but bad ones")
        notice(f"left out {reasons}")
        return kept


def _free_on(device: torch.device) -> float:
    """Bytes of a GPU's own memory that are free; elsewhere the images are where they are to be."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf


def available_memory() -> int:
    """Bytes that this process may still take: what is free, within the limit of its container."""
    import psutil

    limits = [int(psutil.virtual_memory().available)]
    for limit in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # no such limit
            limits.append(int(Path(limit).read_text()))
    return min(limits)
