"""All files of a folder decoded once, and kept on disk."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.files.atomic import atomic_write, remove, sha256
from vision.data.decoding import Streamed, chunks
from vision.data.spectrograms import used_columns

FORMAT = 3  # of the folders written here and of the pixels in them; a part of their key: older ones are not found
ATTEMPTS = 3  # another process may have removed, as damaged, what this one had written

Keep = Literal["pixels", "moments"]


class Decoded(NamedTuple):
    """What is known about the files of a listing once all have been decoded.

    moments: int64 (N, C, 2), the sums of an image's pixels and of their squares; 0 where it is bad.
    shown: float32 (N,), the share of its area that an image shows. contents: int64 (N,), a hash of the file's bytes.
    bad: why, in a sentence, by index. pixels: uint8 (N, C, H, W), memory-mapped; None if not kept.
    areas: int64 (N,), how many pixels are no padding; None where all are.
    """

    moments: NDArray[np.int64]
    shown: NDArray[np.float32]
    contents: NDArray[np.int64]
    bad: dict[int, str]
    pixels: Tensor | None
    areas: NDArray[np.int64] | None


def decode_all(images: Streamed, keep: Keep, cache: Path) -> Decoded:
    """Decodes every file, or reads what an earlier call left in the folder `cache`.

    The folder's name is made of the files' paths, sizes and times of change; a damaged one is written again. Where the
    file system could not give a file, nothing is kept: the next call tries again.
    """
    folder = _place(images, keep, cache)
    for _ in range(ATTEMPTS):
        if decoded := _read(folder, keep):
            return decoded
        remove(folder)  # it is damaged, if it is there
        with atomic_write(folder) as aside:
            aside.mkdir()
            unread = _write(aside, images, keep)
        if unread and (decoded := _read(folder, keep)):
            remove(folder)  # what is mapped stays readable
            return decoded._replace(bad=decoded.bad | unread)
    raise OSError(f"{folder} was written but cannot be read back")


def known_contents(images: Streamed, cache: Path) -> NDArray[np.int64] | None:
    """`Decoded.contents` of files that were decoded before; None where the cache does not have them."""
    for keep in get_args(Keep):
        if decoded := _read(_place(images, keep, cache), keep):
            return decoded.contents
    return None


def _place(images: Streamed, keep: Keep, cache: Path) -> Path:
    layout = images.layout
    key = (FORMAT, layout.channels, layout.side, layout.fit, keep, *([layout.sound] if layout.sound else []))
    return cache / images.listing.digest(*key, of="files")[:32]


def moments(pixels: Tensor) -> Tensor:
    """uint8 (N, C, H, W) -> int64 (N, C, 2): each channel's sum of pixels and sum of squares."""
    parts = [torch.empty(0, pixels.shape[1], 2, dtype=torch.int64)]
    for part in pixels.flatten(2).split(256):
        values = part.double()  # holds every sum exactly
        sums = values.sum(-1), torch.linalg.vecdot(values, values)
        parts.append(torch.stack(sums, dim=-1).long())  # (n, C, 2)
    return torch.cat(parts)


def statistics(sums: Tensor, area: int | Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, in 0..1, from int64 (N, C, 2) of `moments`.

    area: how many pixels each image has, or int64 (N,) where they differ; what lies outside is 0.
    Exact but for the last rounding. A channel that never changes gets the deviation 1/255.
    """
    n = len(sums) * area if isinstance(area, int) else int(area.sum())
    totals = [(int(s), int(q)) for s, q in sums.sum(0).tolist()]
    mean = tuple(s / (n * 255) for s, _ in totals)
    std = tuple((math.sqrt(n * q - s * s) or n) / (n * 255) for s, q in totals)
    return mean, std


def _write(folder: Path, images: Streamed, keep: Keep) -> dict[int, str]:
    """Writes images.json, an array of everything known and, if they are to be kept, of pixels, into an empty folder.

    Returns by index why the file system could not give a file.
    """
    from tqdm import tqdm

    count, layout = len(images), images.layout
    shape = (count, layout.channels, *layout.sides)
    kept = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, shape) if keep == "pixels" else None
    arrays: dict[str, NDArray[Any]] = {
        "moments": np.zeros((*shape[:2], 2), np.int64),
        "shown": np.zeros(count, np.float32),
        "contents": np.zeros(count, np.int64),
    }
    if layout.sound is not None:
        arrays["areas"] = np.zeros(count, np.int64)
    parts = chunks(np.arange(count))
    reasons, unread = dict[int, str](), dict[int, str]()
    with tqdm(total=count, unit="images", desc="decoding", delay=1, disable=None) as bar:
        for indices, batch in zip(parts, replace(images, hashed="always").decode(parts), strict=True):
            arrays["moments"][indices] = moments(batch.pixels).numpy()
            arrays["shown"][indices], arrays["contents"][indices] = batch.shown.numpy(), batch.contents.numpy()
            if layout.sound is not None:
                arrays["areas"][indices] = used_columns(batch.pixels).numpy() * layout.sides[0]
            if kept is not None:
                kept[indices] = batch.pixels.numpy()
            reasons |= batch.bad
            unread |= batch.unread
            bar.update(len(indices))
    del kept  # its last pages are written
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    hashes = {file.name: sha256(file) for file in folder.iterdir()}
    record = {"folder": str(images.listing.folder), "images": count, "side": layout.side, "bad": reasons}
    (folder / "images.json").write_text(json.dumps(record | {"sha256": hashes}), encoding="utf-8")
    return unread


def _read(folder: Path, keep: Keep) -> Decoded | None:
    """What a folder holds; None if there is nothing, or it is damaged."""
    try:
        meta = json.loads((folder / "images.json").read_text(encoding="utf-8"))
        bad = {int(index): str(reason) for index, reason in meta["bad"].items()}
        if any(sha256(folder / name) != digest for name, digest in meta["sha256"].items()):
            return None
        sums, shown, contents = (np.load(folder / f"{name}.npy") for name in ("moments", "shown", "contents"))
        pixels = np.load(folder / "pixels.npy", mmap_mode="c") if keep == "pixels" else None
        areas = np.load(folder / "areas.npy") if "areas.npy" in meta["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    mapped = None if pixels is None else torch.from_numpy(np.asarray(pixels))
    return Decoded(sums, shown, contents, bad, mapped, areas)
