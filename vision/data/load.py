"""From a name or a folder to training and validation images, and separately to test images."""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from core.files.downloads import data_root
from core.messages import nearest
from vision.data.batches import Images, ImageSet, TrainingImages
from vision.data.cache import statistics
from vision.data.folder import Listing, Part, first_few, list_part
from vision.data.named import NAMES, held_out
from vision.data.preparation import Preparation
from vision.data.reading import MEMORY, FolderReader, PartImages, Storage, cached_side, read_named_part

HELD_OUT = 0.1  # of the training images, for validation


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
        if isinstance(images, Images) and images.pixels.nbytes <= MEMORY * free_memory(device):
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
    reader = FolderReader(channels or 3, cached_side(size), storage, skip_bad, root).for_files(train, own)
    if own is None or validation == 0:
        return split(name, reader.read(train), validation, seed)
    if validation is not None:
        raise ValueError(f"validation = {validation!r} has no effect: {own.folder} holds the validation images")
    _check_classes(own, train.classes, str(train.folder))
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
    _check_classes(listing, preparation.classes, "the model")
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


def free_memory(device: torch.device) -> float:
    """Free bytes of a GPU's own memory; infinite elsewhere, where images need not be copied."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf


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


def _check_classes(listing: Listing, known: tuple[str, ...], owner: str) -> None:
    if listing.classes != known:
        different = sorted(set(listing.classes) ^ set(known))
        raise ValueError(f"{listing.folder} has other classes than {owner}: {first_few(different)}")
