"""From a name or a folder to training and validation images, and separately to test images."""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from core.checks import check_choice
from core.files.downloads import data_root
from core.messages import nearest, notice
from core.training.order import Indices
from vision.data.batches import Images, ImageSet, TrainingImages
from vision.data.cache import decode_all, moments, statistics
from vision.data.decoding import Streamed, local_ranks
from vision.data.folder import Listing, Part, first_few, list_part
from vision.data.named import NAMES, held_out, read_named
from vision.data.preparation import Preparation

Storage = Literal["auto", "memory", "stream"]

HELD_OUT = 0.1  # of the training images, for validation
CROP = 7 / 8  # of the side at which a folder's images are stored is the model's input: crops have room
MEMORY = 0.5  # of what is free, on a device too, may be taken by pixels
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, eq=False)
class Data:
    """What a run learns from. fingerprint: SHA-256 that identifies the training images."""

    name: str
    train: ImageSet
    validation: ImageSet
    preparation: Preparation
    fingerprint: str

    def training(self, batch_size: int, seed: int, device: torch.device) -> TrainingImages:
        """Training batches, made on the device where half of its free memory holds all training images."""
        images = self.train
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf  # elsewhere nothing is copied
        if isinstance(images, Images) and images.pixels.nbytes <= MEMORY * free:
            images = images.to(device)
        return TrainingImages(images, batch_size, seed)


@dataclass(frozen=True, eq=False)
class PartImages:
    """One part. sums: `moments` of its images. side, crop: as in `Preparation`. digest: of all that it holds."""

    images: ImageSet
    classes: tuple[str, ...]
    sums: Tensor
    side: int
    crop: float
    digest: str


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
    validation: how many training images, or which fraction of them, are held out, drawn with `seed` and stratified;
        default a folder's own validation part, or else a tenth. 0 is none.
    skip_bad: leave out files of a folder that cannot be decoded, with a notice, in place of an error.
    storage: a folder's pixels in "memory", from a cache on disk, or decoded again whenever they are needed, "stream";
        "auto" is memory where half of what is free suffices.

    Raises ValueError of one sentence for bad input.
    """
    root = root or data_root()
    if channels not in (None, 1, 3):
        raise ValueError(f"channels = {channels!r} must be 1 or 3")
    if name in NAMES:
        return split(name, read_named_part(name, "train", channels, root), validation, seed)
    train, own = _list(name, "train"), _list(name, "validation")
    assert train is not None
    reader = FolderReader(channels or 3, round(size / CROP), storage, skip_bad, root).for_files(train, own)
    if own is None or validation == 0:
        return split(name, reader.read(train), validation, seed)
    if validation is not None:
        raise ValueError(f"validation = {validation!r} has no effect: {own.folder} holds the validation images")
    check_classes(own.classes, train.classes, own.folder, train.folder)
    return replace(split(name, reader.read(train), 0, seed), validation=reader.read(own).images)


def load_test(
    name: str, preparation: Preparation, *, skip_bad: bool = False, storage: Storage = "auto", root: Path | None = None
) -> ImageSet:
    """The test images of what `load_data` takes, stored like those that the preparation was made for.

    The only function that reads them. Raises ValueError of one sentence: there are none, or they have other classes.
    """
    root = root or data_root()
    if name in NAMES:
        part = read_named_part(name, "test", preparation.channels, root)
        if part.classes != preparation.classes:
            raise ValueError(f"{name} has other classes than the model, whose are {', '.join(preparation.classes)}")
        return part.images
    listing = _list(name, "test")
    if listing is None:
        raise ValueError(f"{name} has no test images: they are looked for in {Path(name) / 'test'}")
    check_classes(listing.classes, preparation.classes, listing.folder, "the model")
    reader = FolderReader(preparation.channels, preparation.side, storage, skip_bad, root).for_files(listing)
    return reader.read(listing).images


def split(name: str, part: PartImages, validation: float | None, seed: int) -> Data:
    """Training and validation images from one part. Raises ValueError where a class has none left to train on."""
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


def _list(name: str, part: Part) -> Listing | None:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ValueError(f"there is no folder {name!r}, and no image set of that name; {nearest(name, NAMES)}")
    return list_part(folder, part)


def check_classes(classes: tuple[str, ...], known: tuple[str, ...], images: Path | str, owner: Path | str) -> None:
    """Raises ValueError naming the classes that only one of the two has."""
    if classes != known:
        different = sorted(set(classes) ^ set(known)) or ["the same in another order"]
        raise ValueError(f"{images} has other classes than {owner}: {first_few(different)}")


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
        check_choice("storage", self.storage, get_args(Storage))
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
