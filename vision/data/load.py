"""From a name or a folder to training and validation images, and separately to test images."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from core.files.downloads import data_root
from core.messages import nearest
from core.training.order import Indices
from vision.augmentation.config import CROP
from vision.captions.held_out import Labelling, held_out_captions
from vision.data.batches import Images, ImageSet, TrainingImages
from vision.data.files import IMAGES, Fit, Layout, Media
from vision.data.folder import Listing, Part, Skip, check_training, class_places
from vision.data.named import NAMES, Ties, held_out
from vision.data.preparation import Preparation
from vision.data.reading import (
    MEMORY,
    Files,
    FolderReader,
    PartImages,
    Storage,
    known_files,
    read_named_part,
    report_duplicates,
    report_unseen,
)
from vision.data.recordings import FSDD, is_fsdd, list_fsdd
from vision.data.spectrograms import SoundConfig, require_soundfile
from vision.data.tables import PREFIX, from_hub, list_images, parts_of
from vision.sides import Sides, rows_and_columns, shortest

HELD_OUT = 0.1  # of the training images, for validation


@dataclass(frozen=True, eq=False)
class Data:
    """What a run learns from. The fingerprints are SHA-256 of the training and of the held-out images."""

    name: str
    train: ImageSet
    validation: ImageSet
    preparation: Preparation
    fingerprint: str
    validation_fingerprint: str

    def training(self, batch_size: int, seed: int, device: torch.device) -> TrainingImages:
        """Training batches, made on the device where half of its free memory holds all training images."""
        images = self.train
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf  # elsewhere nothing is copied
        if isinstance(images, Images) and images.pixels.nbytes <= MEMORY * free:
            images = images.to(device)
        return TrainingImages(images, batch_size, seed)


def load_data(
    name: str,
    *,
    size: Sides,
    channels: int | None = None,
    validation: float | None = None,
    seed: int = 0,
    fit: Fit = "crop",
    crop: float = CROP,
    preparation: Preparation | None = None,
    matches: Callable[[str], bool] = bool,
    skip_bad: bool = False,
    storage: Storage = "auto",
    sound: SoundConfig | None = None,
    labelling: Labelling = "classes",
    root: Path | None = None,
) -> Data:
    """Training and validation images; the test part is not read. ValueError of one sentence for bad input.

    name: one of `vision.data.named.NAMES`, under `root` (default: `data_root()`) or downloaded; a folder or a table
        (see `vision.data.tables.list_images`), or hf:NAME.
    size: side of the model's images, in pixels, or rows and columns. A folder's are stored in that shape, made by
        `fit`; `crop` of it is given to the model, or all unless `fit` is crop. A named set's keep their size.
    channels: 1 (grey) or 3; default that of the named set, or 3 for a folder.
    validation: how many training images, or which fraction of them, are held out, drawn with `seed` and stratified;
        default a folder's own validation part, or else a tenth. 0 is none.
    preparation: that of a trained model, whose images are stored and labelled so; channels, fit and crop are its own.
    matches: whether a fingerprint is that of a run; older versions held out other images of classes of equal size.
    skip_bad: leave out files of a folder that cannot be decoded, with a notice, in place of an error.
    sound: how sounds become images, where the files are sounds; `size` is then of bands and windows.
    labelling: whether images are held out stratified by class, or as `vision.captions.held_out` does.
    """
    root = root or data_root()
    if channels not in (None, 1, 3):
        raise ValueError(f"channels = {channels!r} must be 1 or 3")
    if name in NAMES:
        part, own = _read_named(name, "train", root, preparation, channels), None
    else:
        crop = crop if fit == "crop" and sound is None else 1.0
        colours = channels or (3 if sound is None else 1)
        layout = preparation.layout if preparation else Layout(colours, enlarged(size, crop), fit, sound)
        check_sounds(layout)
        reader = FolderReader(layout, crop, storage, _bad(skip_bad), root)
        part, own = _read_folder(name, reader, validation, preparation)
    return split(name, part, validation if own is None else 0, seed, preparation, own, matches, labelling)


def enlarged(size: Sides, crop: float) -> Sides:
    """The sides of which a share `crop` is `size`."""
    rows, columns = rows_and_columns(size)
    return shortest(round(rows / crop), round(columns / crop))


def check_sounds(layout: Layout) -> None:
    """Raises ValueError where sounds cannot be read, or have colours."""
    if layout.sound is not None:
        require_soundfile()
        if layout.channels != 1:
            raise ValueError(f"channels = {layout.channels} must be 1: sounds have no colours")


def _read_folder(
    name: str, reader: FolderReader, validation: float | None, preparation: Preparation | None
) -> tuple[PartImages, PartImages | None]:
    """The training images, and the validation images where they are a part of their own and wanted."""
    media = reader.layout.media
    train, own = (_list(name, part, reader.root, reader.bad, preparation, media) for part in ("train", "validation"))
    assert train is not None
    reader = reader.for_files(train, own)
    if own is None or validation == 0:
        return reader.read(train), None
    if validation is not None:
        raise ValueError(f"validation = {validation:g} has no effect: {own.folder} holds the validation images")
    return reader.read(train), reader.read(own.with_classes(train.classes, train.folder))


def load_part(
    name: str,
    part: Part,
    preparation: Preparation,
    *,
    trained_on: str = "",
    skip_bad: bool = False,
    storage: Storage = "auto",
    root: Path | None = None,
) -> ImageSet:
    """All images of a part of what `load_data` takes, stored and labelled as the preparation of a model says.

    trained_on: what the model was trained on; images that were among these are counted in a notice, if they are known.

    Raises ValueError of one sentence: there are none, or they have classes that the model does not have.
    """
    root = root or data_root()
    if name in NAMES:
        if part == "validation":
            raise ValueError(f"{name} has the parts train and test, and no validation images of its own")
        return _read_named(name, part, root, preparation).images
    bad, media = _bad(skip_bad), preparation.layout.media
    check_sounds(preparation.layout)
    listing = _list(name, part, root, bad, preparation, media)
    if listing is None:
        raise ValueError(f"{name} has no {part} {media.plural}: they are looked for in {Path(name) / part}")
    images = FolderReader(preparation.layout, preparation.crop, storage, bad, root).for_files(listing).read(listing)
    report_unseen(images.shown, name, media)
    if images.files:
        report_duplicates({"evaluation": images.files} | _training_files(trained_on, listing, preparation, root))
    return images.images


def load_test(
    name: str, preparation: Preparation, *, skip_bad: bool = False, storage: Storage = "auto", root: Path | None = None
) -> ImageSet:
    """The test images, as `load_part` has them; nothing else reads any."""
    return load_part(name, "test", preparation, skip_bad=skip_bad, storage=storage, root=root)


def split(
    name: str,
    part: PartImages,
    validation: float | None,
    seed: int,
    preparation: Preparation | None = None,
    own: PartImages | None = None,
    matches: Callable[[str], bool] = bool,
    labelling: Labelling = "classes",
) -> Data:
    """Training and validation images from one part, or the latter from a part of their own; matches: see `load_data`.

    Raises ValueError where a class has none left to train on.
    """
    labels = part.images.labels.numpy()
    count = _number_held_out(validation, len(labels))
    if labelling == "captions":
        draws = [held_out_captions(part.classes, labels, None if validation is None else count, seed)]
    else:
        draws = [held_out(labels, count, seed, ties) for ties in get_args(Ties)]
    held = next((draw for draw in draws if matches(_fingerprints(part, draw)[0])), draws[0])
    kept = np.setdiff1d(np.arange(len(labels)), held)
    for label in np.setdiff1d(labels, labels[kept]) if labelling == "classes" else ():
        raise ValueError(
            f"{len(held)} images held out for validation leave none of {part.classes[label]!r} to train on: "
            f"hold out fewer, or add images"
        )
    report_unseen(part.shown, name, part.layout.media)
    if part.files:
        others = own.files if own and own.files else part.files.subset(held)
        report_duplicates({"training": part.files.subset(kept), "validation": others})
    prints = _fingerprints(part, held)
    images = part.images.subset(held)
    if own is not None:
        images, prints = own.images, (prints[0], own.digest)
    return Data(name, part.images.subset(kept), images, preparation or part.preparation(kept), *prints)


def _fingerprints(part: PartImages, held: Indices) -> tuple[str, str]:
    """Those of the images that are trained on and of those held out."""
    kept = np.setdiff1d(np.arange(len(part.images)), held)
    one, other = (hashlib.sha256(part.digest.encode() + chosen.tobytes()).hexdigest() for chosen in (kept, held))
    return one, other


def _number_held_out(validation: float | None, images: int) -> int:
    if validation is None:
        validation = HELD_OUT
    number = max(1, round(validation * images)) if 0 < validation < 1 else validation
    if not (0 <= number < images and number == int(number)):
        raise ValueError(f"validation = {validation:g} must be a number of images below {images:,}, or a fraction of 1")
    return int(number)


def _bad(skip_bad: bool) -> Skip:
    return "skip" if skip_bad else "refuse"


def _read_named(
    name: str,
    part: Literal["train", "test"],
    root: Path,
    preparation: Preparation | None,
    channels: int | None = None,
) -> PartImages:
    """A part of a named set, as it is or as a trained model has it stored and labelled."""
    if preparation is None:
        return read_named_part(name, part, root, channels)
    images = read_named_part(name, part, root, preparation.channels, preparation.layout)
    places = class_places(images.classes, preparation.classes, name, "the model")
    assert isinstance(images.images, Images)
    labels = torch.from_numpy(places)[images.images.labels]
    return replace(images, images=Images(images.images.pixels, labels), classes=preparation.classes)


def _list(
    name: str, part: Part, root: Path, bad: Skip, preparation: Preparation | None, media: Media
) -> Listing | None:
    """The images of a part, labelled by the classes of a trained model where there is one."""
    if is_fsdd(name):
        listing = list_fsdd(name, part, root, bad)
    else:
        listing = list_images(find_folder(name, root), part, bad, media)
    if listing is None:
        return None
    if preparation is not None:
        return listing.with_classes(preparation.classes, "the model")
    if part == "train":
        check_training(listing, media)
    return listing


def parts_named(name: str, root: Path, media: Media = IMAGES) -> set[Part]:
    """The parts that a name or a folder holds."""
    if name in NAMES or is_fsdd(name):
        return {"train", "test"}
    return parts_of(find_folder(name, root), media)


def find_folder(name: str, root: Path) -> Path:
    """The folder or the table of images that a name stands for. Raises ValueError where there is none."""
    if name.startswith(PREFIX):
        return from_hub(name, root)
    path = Path(name).expanduser()
    if not name or not path.exists():
        raise ValueError(f"there is no folder {name!r}, and no image set of that name; {nearest(name, (*NAMES, FSDD))}")
    return path


def _training_files(name: str, listing: Listing, preparation: Preparation, root: Path) -> dict[str, Files]:
    """The files that a model was trained on, where they are still known and are not those of the listing."""
    if not name or name in NAMES:
        return {}
    with suppress(ValueError, OSError):  # they have moved, or changed
        train = _list(name, "train", root, "ignore", preparation, preparation.layout.media)
        if train is not None and (train.folder.resolve(), train.files) != (listing.folder.resolve(), listing.files):
            known = known_files(train, preparation.layout, root)
            return {"training": known} if known else {}
    return {}
