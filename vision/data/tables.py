"""Images whose classes stand in a table, beside a flat folder or in a data set of the Hugging Face hub."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.files.atomic import atomic_write
from core.messages import first_line, notice
from vision.data.files import IMAGES, Media
from vision.data.folder import (
    Listing,
    Part,
    Skip,
    Walk,
    first_few,
    list_part,
    listing_of,
    part_called,
    part_folders,
)

PREFIX = "hf:"
JPEG = b"\xff\xd8"
HUGGING_FACE = f"{PREFIX}NAME[:CONFIG]"
FILES = ("labels.csv", "labels.tsv", "metadata.csv")
"""Tables that are looked for in a folder without class folders."""
FILE_COLUMNS = ("file_name", "filename", "file", "image", "image_path", "path", "filepath", "image_id", "id", "name")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target", "breed", "species")
SPLIT_COLUMNS = ("split", "part", "subset", "set")


@dataclass(frozen=True)
class Row:
    """A line of a table: an image as it is written there, its class, and the part it belongs to, if any is named."""

    file: str
    label: str
    split: str = ""


def find_table(path: Path, media: Media = IMAGES) -> Path | None:
    """The table that `path` is, or that lies in the folder `path`, unless that has class folders."""
    if path.is_file():
        if path.suffix.lower() not in (".csv", ".tsv"):
            raise ValueError(
                f"{path} is a file: a folder of {media.plural} is needed, or a table of them in .csv or .tsv"
            )
        return path
    table = next((path / name for name in FILES if (path / name).is_file()), None)
    if table is None:
        return None
    folders = part_folders(path, media)
    walk = Walk(media)
    inner = walk.scan(folders.get("train", path))[0]
    return table if sum(next(walk.below(folder), None) is not None for folder in inner) < 2 else None


def parts_of(path: Path, media: Media = IMAGES) -> set[Part]:
    """The parts that a folder of images, or a table of them, holds."""
    if table := find_table(path, media):
        return set(_by_part(table, Walk(media)))
    return set(part_folders(path, media)) or {"train"}


def list_images(path: Path, part: Part, bad: Skip = "refuse", media: Media = IMAGES) -> Listing | None:
    """The images of one part of a folder (`vision.data.folder.list_part`) or a table; None where it has no such part.

    A table is CSV or TSV, with a column for the file, one for the class, and perhaps one for the part, under names of
    FILE_COLUMNS, LABEL_COLUMNS and SPLIT_COLUMNS, or two columns without any. Files are looked for below the table's
    folder, by path or by name, with or without suffix; a part may be a folder as well. Classes are sorted, numbers by
    value.

    Raises ValueError of one sentence for a table that is not such.
    """
    table = find_table(path, media)
    if table is None:
        return list_part(path, part, bad, media)
    walk = Walk(media)
    parts = _by_part(table, walk)
    if part not in parts:
        if part == "train":
            raise ValueError(f"{table} names no images to train on, only: {', '.join(sorted(parts)) or 'none'}")
        return None
    return listing_of(table.parent, parts[part], walk, bad)


def read_table(table: Path) -> list[Row]:
    """The rows of a table. Raises ValueError where its columns are not known."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8: {error.reason} at byte {error.start}") from error
    separator = max(",;\t", key=text.partition("\n")[0].count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows = [[cell.strip() for cell in cells] for cells in lines if any(cells)]
    if not rows:
        raise ValueError(f"{table} is empty")
    names = [cell.lower().replace(" ", "_") for cell in rows[0]]
    file, label, split = (_column(names, known) for known in (FILE_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS))
    if file is None and label is None and len(names) == 2:
        return [Row(*cells[:2]) for cells in rows if len(cells) >= 2]
    if file is None or label is None:
        wanted = f"one of {', '.join(FILE_COLUMNS)} and one of {', '.join(LABEL_COLUMNS)}"
        raise ValueError(f"{table} has the columns {', '.join(rows[0])}: {wanted} are needed")
    for number, cells in enumerate(rows[1:], 2):
        if len(cells) <= max(file, label, split or 0):
            raise ValueError(f"{table} has {len(cells)} cells in row {number}, not {len(names)}")
    return [Row(cells[file], cells[label], "" if split is None else cells[split]) for cells in rows[1:]]


def _column(names: Sequence[str], known: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _by_part(table: Path, walk: Walk) -> dict[Part, dict[str, list[Path]]]:
    """The images of a table by part and class; what is named there and not found is unreadable."""
    root, rows = table.parent, read_table(table)
    images = list(walk.below(root))
    places = _places(root, images)
    labels: dict[Path, str] = {}
    parts: dict[Part, dict[str, list[Path]]] = {}
    for row in rows:
        path = places.get(row.file.replace("\\", "/").removeprefix(f"{root.resolve()}/").removeprefix("./"))
        if path is None:
            walk.unreadable.append(f"{table} names {row.file}, which is not below {root}, or more than once")
        elif labels.setdefault(path, row.label) != row.label:
            raise ValueError(f"{table} has two classes for {row.file}: {labels[path]} and {row.label}")
        else:
            parts.setdefault(_part(table, row, path), {}).setdefault(row.label, []).append(path)
    walk.kinds -= Counter([table.suffix.lower()])
    if unlabelled := len(images) - len(labels):
        walk.left_out[f"{walk.media.plural} without a row in {table.name}"] += unlabelled
    return {part: _in_order(classes) for part, classes in parts.items()}


def _places(root: Path, images: Sequence[Path]) -> dict[str, Path]:
    """Images by every name that a table may have for them: path or name, with or without suffix, where it is unique."""
    names: dict[str, set[Path]] = {}
    for path in images:
        relative = path.relative_to(root)
        for name in (relative.as_posix(), relative.with_suffix("").as_posix(), path.name, path.stem):
            names.setdefault(name, set()).add(path)
    whole = {path.relative_to(root).as_posix(): path for path in images}
    return {name: next(iter(paths)) for name, paths in names.items() if len(paths) == 1} | whole


def _part(table: Path, row: Row, path: Path) -> Part:
    """The part of an image: that of its row, or else of the folder below the table that it lies in, or else train."""
    if not row.split:
        inside = path.relative_to(table.parent).parts[:-1]
        return next((part for part in map(part_called, inside) if part), "train")
    if part := part_called(row.split):
        return part
    raise ValueError(f"{table} has the part {row.split!r} of {row.file}: train, val and test are known")


def _in_order(classes: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Classes sorted, numbers by value, each with its images once and sorted."""
    numbers = all(label.isdecimal() for label in classes)
    order = sorted(classes, key=int) if numbers else sorted(classes)
    return {label: sorted(set(classes[label]), key=Path.as_posix) for label in order}


def from_hub(data: str, root: Path) -> Path:
    """A data set of the `datasets` library as a folder with a table, written once below `root`.

    Its column of images and its column of classes are found by their types; its splits are parts. Raises ValueError
    saying what is missing.
    """
    name, _, config = data.removeprefix(PREFIX).partition(":")
    stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(Path(name).rglob("*.*"))]
    target = root / "cache" / "hf" / hashlib.sha256(repr((data, stamps)).encode()).hexdigest()[:32]
    if not target.is_dir():
        splits = _load(data, name, config)
        with atomic_write(target) as aside:
            aside.mkdir()
            lines = [line for split, rows in splits.items() for line in _write_split(data, split, rows, aside)]
            with (aside / FILES[0]).open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("file_name", "label", "split"), *lines])
    return target


def _load(data: str, name: str, config: str) -> dict[str, Any]:
    """The splits of a data set that are parts, without images decoded."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ValueError(f"{data} needs the package datasets: pip install 'triptych[hf]'") from error
    try:
        splits = dict(load_dataset(name, config or None))
    except Exception as error:  # the library raises what its readers and the network raise
        raise ValueError(f"{data} cannot be loaded as {HUGGING_FACE}: {first_line(error)}") from error
    if others := [split for split in splits if part_called(split) is None]:
        notice(f"left out of {data}: the splits {first_few(others)}")
    return {split: rows for split, rows in splits.items() if split not in others}


def _write_split(data: str, split: str, rows: Any, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Writes the files of a split as they are; yields the row of each image that has a class."""
    from datasets import ClassLabel, Image

    features = rows.features
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    classes = classes or [name for name in LABEL_COLUMNS if name in features]
    if len(images) != 1 or not classes:
        raise ValueError(f"{data} has the columns {', '.join(features)}: one of images and one of classes are needed")
    (folder / split).mkdir()
    for number, row in enumerate(rows.cast_column(images[0], Image(decode=False))):
        image, label = row[images[0]], row[classes[0]]
        if label is None or label == -1:  # the mark of images without a class
            continue
        content = image["bytes"] or Path(image["path"]).read_bytes()
        file = f"{split}/{number:07d}.{'jpg' if content.startswith(JPEG) else 'png'}"
        (folder / file).write_bytes(content)
        names = getattr(features[classes[0]], "names", None)
        yield file, str(names[label] if names else label), split
