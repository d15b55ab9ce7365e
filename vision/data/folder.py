"""A folder of images: which sub-folders are its parts and classes, which files are images, and what is left out."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.messages import notice
from core.training.folder import is_run_folder
from vision.data.files import IMAGES, Media

Part = Literal["train", "validation", "test"]
Labels = NDArray[np.int64]
Skip = Literal["refuse", "skip", "ignore"]
"""What is done about files that cannot be read: an error, left out with a notice, or without."""

CALLED: dict[Part, str] = {
    "train": "train|training",
    "validation": "val|valid|validation|dev|eval|evaluation",
    "test": "test|testing",
}
"""Names of the sub-folder that may hold a part, in upper or lower case; `set`, `data` or `images` may follow."""
SYSTEM = frozenset("@eadir __macosx $recycle.bin #recycle @recycle #snapshot @tmp lost+found __pycache__".split())
"""Folders of thumbnails, forks and deleted files that systems leave behind, in lower case."""
RUN = "run folders"
FEW = 3  # names that a sentence lists before it only counts them


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of one part of a folder, ordered by class and path.

    files: paths under `folder`, with `/`. labels: int64 (N,). stamps: int64 (N, 2), size in bytes and time of
    change in ns.
    """

    folder: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: Labels
    stamps: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.files)

    def subset(self, indices: NDArray[np.int64]) -> Listing:
        """The images at `indices`, in that order."""
        files = tuple(self.files[i] for i in indices)
        return Listing(self.folder, self.classes, files, self.labels[indices], self.stamps[indices])

    def with_classes(self, classes: tuple[str, ...], owner: Path | str) -> Listing:
        """The same images, labelled by the places of their classes among `classes`, which are those of `owner`.

        Raises ValueError naming the classes that the owner does not have.
        """
        own = tuple(name if label in self.labels else "" for label, name in enumerate(self.classes))
        places = class_places(own, classes, self.folder, owner)
        return Listing(self.folder, classes, self.files, places[self.labels], self.stamps)

    def digest(self, *what: object, of: Literal["content", "files"] = "content") -> str:
        """SHA-256 of the paths, sizes and labels, and of `what`; "files": of the folder and times of change as well."""
        digest = hashlib.sha256(repr([*what, of == "files" and str(self.folder.resolve())]).encode())
        digest.update("\0".join(self.files).encode(errors="surrogateescape"))
        digest.update(self.stamps[:, : 2 if of == "files" else 1].tobytes())
        digest.update(self.labels.tobytes())
        return digest.hexdigest()


class Walk:
    """Finds the images, or other media, below folders, follows links, and counts what is left out."""

    def __init__(self, media: Media = IMAGES) -> None:
        self.media = media
        self.left_out: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.unreadable: list[str] = []

    def scan(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The folders and the images in a folder itself, each sorted by name."""
        folders, images = list[Path](), list[Path]()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self.unreadable.append(f"{folder} cannot be read: {error.strerror}")
            entries = []
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith("."):
                self.left_out["hidden files and folders"] += 1
            elif _is_folder(entry):
                if reason := _no_data(path):
                    self.left_out[reason] += 1
                else:
                    folders.append(path)
            elif entry.name.lower().endswith(self.media.suffixes):
                images.append(path)
            elif entry.is_symlink() and not path.exists():
                self.left_out["broken links"] += 1
            else:
                self.kinds[path.suffix.lower() or "no suffix"] += 1
        return folders, images

    def below(self, folder: Path) -> Iterator[Path]:
        """All images below a folder. No folder is entered twice, nor one that this one lies in."""
        above = [*folder.resolve().parents]
        if folder.is_symlink():
            above += [folder.parent.resolve(), *folder.parent.resolve().parents]
        yield from self._below(folder, {_identity(each) for each in above})

    def _below(self, folder: Path, entered: set[tuple[int, int]]) -> Iterator[Path]:
        if (identity := _identity(folder)) in entered:
            self.left_out["links to folders already read"] += 1
            return
        entered.add(identity)
        folders, images = self.scan(folder)
        yield from images
        for inner in folders:
            yield from self._below(inner, entered)

    def notice(self, folder: Path) -> None:
        """Says on stderr what was left out of a folder, by reason, if anything was."""
        reasons = [f"{reason} ({count:,})" for reason, count in sorted(self.left_out.items())]
        if self.kinds:
            kinds = first_few([kind for kind, _ in self.kinds.most_common()])
            reasons.append(f"files that are not {self.media.plural} ({self.kinds.total():,}: {kinds})")
        if self.unreadable:
            reasons.append(f"what cannot be read ({len(self.unreadable):,}: {first_few(self.unreadable)})")
        if reasons:
            notice(f"left out in {folder}: {', '.join(reasons)}")


def part_folders(root: Path, media: Media = IMAGES) -> dict[Part, Path]:
    """The sub-folders that hold a part of a folder's images: those called so, unless a class lies beside them.

    Raises ValueError where two of them hold the same part.
    """
    walk = Walk(media)
    found: dict[Part, Path] = {}
    others = []
    for folder in walk.scan(root)[0]:
        part = part_called(folder.name)
        if part is None:
            others.append(folder)
        elif part in found:
            raise ValueError(f"{found[part]} and {folder} both hold {part} images: rename one of them")
        else:
            found[part] = folder
    beside = [folder for folder in others if next(walk.below(folder), None)]
    return {} if beside else found


def part_called(name: str) -> Part | None:
    """The part that a name stands for, in upper or lower case."""
    pattern = "({})([ _-]?(set|data|images))?"
    return next((part for part, names in CALLED.items() if re.fullmatch(pattern.format(names), name, re.I)), None)


def list_part(root: Path, part: Part, bad: Skip = "refuse", media: Media = IMAGES) -> Listing | None:
    """The images of one part; no other part is looked into. None if the folder has no such part.

    `root/train/CLASS/*` with `root/val/CLASS/*` and `root/test/CLASS/*` beside it if wanted (see CALLED); or
    `root/CLASS/*`, all of it to train on. Classes are sorted by name; an image may lie deeper in its class's folder.
    bad: what is done about files and folders that cannot be read. All that is left out is counted in a notice.

    Raises ValueError: no class folder, or no part to train on though there are others.
    """
    folders = part_folders(root, media)
    if part in folders:
        return _list(folders[part], bad, media)
    if part != "train":
        return None
    if folders:
        others = " and ".join(str(folders[other]) for other in CALLED if other in folders)
        raise ValueError(f"{root} has {others} but no {root / 'train'} to train on")
    listing = _list(root, bad, media)
    if parts := [name for name in listing.classes if part_called(name)]:
        notice(f"taken for classes of {root}, as others lie beside them: {first_few(parts)}")
    return listing


def class_places(own: Sequence[str], known: Sequence[str], images: Path | str, owner: Path | str) -> Labels:
    """The place of each class among those that are known to `owner`; an empty name is a class without images.

    Says on stderr which of the known classes have no images. Raises ValueError naming the classes that are not known.
    """
    if unknown := [name for name in own if name and name not in known]:
        raise ValueError(f"{images} has classes that {owner} does not have: {first_few(unknown)}")
    if absent := [name for name in known if name not in own]:
        notice(f"{images} has no images of {first_few(absent)}")
    place = {name: label for label, name in enumerate(known)}
    return np.array([place.get(name, -1) for name in own], np.int64)


def first_few(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - FEW
    return "; ".join(names[:FEW]) + (f"; and {more:,} more" if more > 0 else "")


def listing_of(folder: Path, images: Mapping[str, Sequence[Path]], walk: Walk, bad: Skip) -> Listing:
    """A listing of images below a folder, by class, after the notice of what a walk left out.

    Raises ValueError naming what cannot be read, unless that is left out.
    """
    files, labels, stamps = list[str](), list[int](), list[tuple[int, int]]()
    for label, paths in enumerate(images.values()):
        for path in paths:
            try:
                status = path.stat()
            except OSError as error:
                walk.unreadable.append(f"{path} cannot be read: {error.strerror}")
            else:
                files.append(path.relative_to(folder).as_posix())
                labels.append(label)
                stamps.append((status.st_size, status.st_mtime_ns))
    if walk.unreadable and bad == "refuse":
        raise ValueError(f"{first_few(walk.unreadable)}; --skip-bad leaves out what cannot be read")
    if bad != "ignore":
        walk.notice(folder)
    return Listing(folder, tuple(images), tuple(files), np.array(labels, np.int64), np.array(stamps).reshape(-1, 2))


def _list(folder: Path, bad: Skip, media: Media) -> Listing:
    walk = Walk(media)
    folders, loose = walk.scan(folder)
    if loose:
        walk.left_out[f"{media.plural} outside of class folders"] += len(loose)
    images = {}
    for each in folders:
        runs = walk.left_out[RUN]
        found = sorted(walk.below(each), key=Path.as_posix)
        if found or walk.left_out[RUN] == runs:
            images[each.name] = found
    if not images:
        place = folder / "CLASS" / media.example
        raise ValueError(f"{folder} has no class folders: {media.plural} are looked for at {place}")
    return listing_of(folder, images, walk, bad)


def check_training(listing: Listing, media: Media = IMAGES) -> None:
    """Raises ValueError where a listing has fewer than two classes, or a class without images."""
    folder, classes = listing.folder, listing.classes
    if len(classes) == 1:
        raise ValueError(f"{folder} has one class only, {classes[0]!r}: a sub-folder each for two or more is needed")
    for label in np.setdiff1d(np.arange(len(classes)), listing.labels):
        end = f"{media.plural}: they end in {' '.join(media.suffixes)}"
        raise ValueError(f"the class folder {folder / classes[label]} has no {end}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _no_data(folder: Path) -> str:
    """Why a folder holds no data, if it does not."""
    if folder.name.lower() in SYSTEM:
        return "system folders"
    return RUN if is_run_folder(folder) else ""


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
