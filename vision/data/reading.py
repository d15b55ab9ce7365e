"""The images of one part of a data set as they are read, before any split."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.checks import check_choice
from core.messages import notice
from core.training.order import Indices
from vision.data.batches import Images, ImageSet
from vision.data.cache import decode_all, known_contents, moments, statistics
from vision.data.decoding import Streamed, local_ranks
from vision.data.files import IMAGES, SOUNDS, Layout, Media, to_stored
from vision.data.folder import Listing, Skip, first_few
from vision.data.named import read_named
from vision.data.preparation import Preparation
from vision.sides import shortest

Storage = Literal["auto", "memory", "stream"]
"""A folder's pixels: mapped from a cache on disk, or decoded whenever they are needed; auto is memory if half of what
is free suffices."""

MEMORY = 0.5  # of what is free, on a device too, may be taken by pixels
UNSEEN = 0.1  # of all pixels: from there on it is said that they are never seen
CACHE = Path("cache", "images")
"""Where decoded images are kept, below the data root."""
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Files(NamedTuple):
    """Image files by their contents: hashes of the bytes, int64 (N,)."""

    listing: Listing
    contents: NDArray[np.int64]

    def subset(self, indices: Indices) -> Files:
        """The files at `indices`."""
        return Files(self.listing.subset(indices), self.contents[indices])


@dataclass(frozen=True, eq=False)
class PartImages:
    """One part. sums: `moments` of its images. layout, crop: as in `Preparation`. digest: of all that it holds.

    shown: the share of the images' area that is stored. files: none of a named set. areas: int64 (N,), how many pixels
    of each are no padding; None where all are.
    """

    images: ImageSet
    classes: tuple[str, ...]
    sums: Tensor
    layout: Layout
    crop: float
    digest: str
    shown: float = 1.0
    files: Files | None = None
    areas: Tensor | None = None

    def preparation(self, indices: Indices) -> Preparation:
        """That of a model that is trained on the images at `indices`."""
        rows, layout = torch.from_numpy(indices), self.layout
        mean, std = statistics(self.sums[rows], math.prod(layout.sides) if self.areas is None else self.areas[rows])
        return Preparation(
            self.classes, layout.channels, mean, std, layout.side, self.crop, layout.fit, sound=layout.sound
        )


def report_duplicates(parts: Mapping[str, Files]) -> None:
    """Says on stderr which files are the same, byte by byte, though of different classes or in different parts."""
    listings = [files.listing for files in parts.values()]
    labels = np.concatenate([listing.labels for listing in listings])
    places = np.repeat(np.arange(len(listings)), [len(listing) for listing in listings])
    starts = np.cumsum([0, *map(len, listings)])
    _, groups = np.unique(np.concatenate([files.contents for files in parts.values()]), return_inverse=True)
    by_group: dict[int, list[int]] = {}
    for index in np.flatnonzero(np.bincount(groups)[groups] > 1).tolist():
        by_group.setdefault(int(groups[index]), []).append(index)

    def path(index: int) -> str:
        listing = listings[places[index]]
        return str(listing.folder / listing.files[index - starts[places[index]]])

    for kinds, what in ((labels, "of several classes"), (places, f"in {' and in '.join(parts)} images")):
        same = [(a, next((b for b in rest if kinds[b] != kinds[a]), None)) for a, *rest in by_group.values()]
        if pairs := [f"{path(a)} = {path(b)}" for a, b in same if b is not None]:
            notice(f"{len(pairs):,} images are the same file {what}: {first_few(pairs)}")


def read_named_part(
    name: str, part: Literal["train", "test"], root: Path, channels: int | None, layout: Layout | None = None
) -> PartImages:
    """A part of one of `vision.data.named.NAMES`; channels, layout: None for its own."""
    pixels, labels, classes = read_named(name, part, root)
    pixels = with_channels(pixels, channels or pixels.shape[1])
    digest = hashlib.sha256(pixels.numpy().data)
    digest.update(labels.numpy().data)
    pixels = restored(pixels, layout)
    layout = Layout(pixels.shape[1], shortest(*pixels.shape[-2:]))
    return PartImages(Images(pixels, labels), classes, moments(pixels), layout, 1.0, digest.hexdigest())


def with_channels(pixels: Tensor, channels: int) -> Tensor:
    """uint8 (N, 1 or 3, H, W) -> (N, channels, H, W); grey is Pillow's luma, to the last bit."""
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1).contiguous()
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32).view(3, 1, 1)
    return torch.cat([((p * weights).sum(1, keepdim=True) + (1 << 15) >> 16).byte() for p in pixels.split(4096)])


def restored(pixels: Tensor, layout: Layout | None) -> Tensor:
    """uint8 (N, C, H, W) as they would be stored if each were a file: (N, C, rows, columns)."""
    from PIL import Image

    if layout is None or tuple(pixels.shape[-2:]) == layout.sides:
        return pixels
    images = (Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()) for image in pixels)  # (H, W, C) or (H, W)
    return torch.stack([to_stored(image, layout).pixels for image in images])


@dataclass(frozen=True)
class FolderReader:
    """How the files of a folder are read; crop: as in `Preparation`."""

    layout: Layout
    crop: float
    storage: Storage
    bad: Skip
    root: Path

    def for_files(self, *listings: Listing | None) -> FolderReader:
        """The same, "auto" replaced by what suits these files together."""
        check_choice("storage", self.storage, get_args(Storage))
        if self.storage != "auto":
            return self
        files = sum(len(listing) for listing in listings if listing)
        size = files * self.layout.channels * math.prod(self.layout.sides)
        fits = size <= MEMORY * available_memory() / local_ranks()
        return replace(self, storage="memory" if fits else "stream")

    def read(self, listing: Listing) -> PartImages:
        """Every file decoded once, now or earlier; files that cannot be are an error or left out."""
        streamed, layout = Streamed(listing, self.layout), self.layout
        keep: Literal["pixels", "moments"] = "pixels" if self.storage == "memory" else "moments"
        decoded = decode_all(streamed, keep, self.root / CACHE)
        images: ImageSet = (
            streamed if decoded.pixels is None else Images(decoded.pixels, streamed.labels, listing.files)
        )
        good = np.setdiff1d(np.arange(len(listing)), list(decoded.bad))
        if decoded.bad:
            self._leave_out(listing, decoded.bad, good)
            listing, images = listing.subset(good), images.subset(good)
        more = [value for value in (layout.fit, layout.sound) if value not in ("crop", None)]
        return PartImages(
            images,
            listing.classes,
            torch.from_numpy(decoded.moments[good]),
            layout,
            self.crop,
            listing.digest(layout.channels, layout.side, *more),
            float(decoded.shown[good].mean()) if len(good) else 1.0,
            Files(listing, decoded.contents[good]),
            None if decoded.areas is None else torch.from_numpy(decoded.areas[good]),
        )

    def _leave_out(self, listing: Listing, bad: dict[int, str], good: Indices) -> None:
        """Raises ValueError where bad files are not to be skipped, or are a whole class."""
        media = self.layout.media.plural
        reasons = f"{len(bad):,} of {len(listing):,} {media}: {first_few(list(bad.values()))}"
        if self.bad == "refuse":
            raise ValueError(f"cannot decode {reasons}; --skip-bad leaves them out")
        for label in np.setdiff1d(listing.labels, listing.labels[good]):
            raise ValueError(f"the class folder {listing.folder / listing.classes[label]} has only bad {media}")
        notice(f"left out {reasons}")


def known_files(listing: Listing, layout: Layout, root: Path) -> Files | None:
    """The files of a listing by their contents, if they were all read before."""
    contents = known_contents(Streamed(listing, layout), root / CACHE)
    return None if contents is None else Files(listing, contents)


def report_unseen(shown: float, name: str, media: Media = IMAGES) -> None:
    """Says on stderr that much of the images is cut off, where only a share of their area is shown."""
    if 1 - shown > UNSEEN and media == SOUNDS:
        notice(f"{1 - shown:.0%} of the duration of {name} is never heard: only the middle of each sound is")
    elif 1 - shown > UNSEEN:
        notice(
            f"{1 - shown:.0%} of the pixels of {name} are never seen: only the central part of each image is; "
            f"a model that is trained with --fit pad or --fit squash sees all of them"
        )


def available_memory() -> int:
    """Bytes that this process may still take: what is free, within the limit of its container."""
    import psutil

    limits = [int(psutil.virtual_memory().available)]
    for limit in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # no such limit
            limits.append(int(Path(limit).read_text()))
    return min(limits)
