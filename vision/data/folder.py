"""A folder of images with a sub-folder for each class: its files and their classes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.messages import notice
from vision.data.files import SUFFIXES

Part = Literal["train", "validation", "test"]
Labels = NDArray[np.int64]

FOLDERS: dict[Part, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}
"""Names of the sub-folder that may hold a part."""
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

    def digest(self, *what: object, of: Literal["content", "files"] = "content") -> str:
        """SHA-256 of the paths, sizes and labels, and of `what`; "files": of the folder and times of change as well."""
        digest = hashlib.sha256(repr([*what, of == "files" and str(self.folder.resolve())]).encode())
        digest.update("\0".join(self.files).encode(errors="surrogateescape"))
        digest.update(self.stamps[:, : 2 if of == "files" else 1].tobytes())
        digest.update(self.labels.tobytes())
        return digest.hexdigest()


def list_part(root: Path, part: Part) -> Listing | None:
    """The images of one part; no other part is looked into. None if the folder has no such part.

    `root/train/CLASS/*` with one of `root/{val,valid,validation}/CLASS/*` and `root/test/CLASS/*` beside it if
    wanted; or `root/CLASS/*`, all of it to train on. Classes are sorted by name; an image may lie deeper in its
    class's folder. Hidden files and those without one of SUFFIXES are left out, with a notice on stderr.

    Raises ValueError: no class folder, only one, or one without images.
    """
    folders = part_folders(root)
    others = [str(folder) for other, folder in folders.items() if other != "train"]
    if others and "train" not in folders:
        raise ValueError(f"{root} has {' and '.join(others)} but no {root / 'train'} to train on")
    folder = folders.get(part, root if part == "train" else None)
    return None if folder is None else _list(folder)


def part_folders(root: Path) -> dict[Part, Path]:
    """The sub-folders that hold a part of a folder's images."""
    places = {part: [root / name for name in names if (root / name).is_dir()] for part, names in FOLDERS.items()}
    return {part: folders[0] for part, folders in places.items() if folders}


def files_below(folder: Path) -> list[Path]:
    """All files below a folder but those in hidden ones."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent, name) for name in names]
    return files


def first_few(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - FEW
    return "; ".join(names[:FEW]) + (f"; and {more:,} more" if more > 0 else "")


def _list(folder: Path) -> Listing:
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise ValueError(f"{folder} has no class folders: images are looked for at {folder / 'CLASS' / '*.jpg'}")
    if len(classes) == 1:
        raise ValueError(f"{folder} has one class only, {classes[0]!r}: a sub-folder each for two or more is needed")
    files, labels, ignored = list[str](), list[int](), 0
    for label, name in enumerate(classes):
        below = [file.relative_to(folder).as_posix() for file in files_below(folder / name)]
        images = sorted(file for file in below if _is_image(file))
        if not images:
            raise ValueError(f"the class folder {folder / name} has no images: they end in {' '.join(SUFFIXES)}")
        ignored += len(below) - len(images)
        files += images
        labels += [label] * len(images)
    if ignored:
        notice(f"left out {ignored:,} files in {folder}, hidden or not images: those end in {' '.join(SUFFIXES)}")
    statuses = [(folder / file).stat() for file in files]
    stamps = np.array([(status.st_size, status.st_mtime_ns) for status in statuses])
    return Listing(folder, tuple(classes), tuple(files), np.array(labels), stamps)


def _is_image(file: str) -> bool:
    name = file.rpartition("/")[2]
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")
