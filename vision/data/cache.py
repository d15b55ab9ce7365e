"""All files of a folder decoded once, and kept on disk."""

import json
import math
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.files.atomic import atomic_write, remove, sha256
from vision.data.decoding import Streamed, chunks

FORMAT = 2  # of the folders written here and of the pixels in them; a part of their key: older ones are not found
ATTEMPTS = 3  # another process may have removed, as damaged, what this one had written

Keep = Literal["pixels", "moments"]


class Decoded(NamedTuple):
    """What is known about the files of a listing once all have been decoded.

    moments: int64 (N, C, 2), the sums of an image's pixels and of their squares; 0 where it is bad.
    bad: why, in a sentence, by index. pixels: uint8 (N, C, S, S), memory-mapped; None if not kept.
    """

    moments: NDArray[np.int64]
    bad: dict[int, str]
    pixels: Tensor | None


def decode_all(images: Streamed, keep: Keep, cache: Path) -> Decoded:
    """Decodes every file, or reads what an earlier call left in the folder `cache`.

    The folder's name is made of the files' paths, sizes and times of change; a damaged one is written again.
    """
    folder = cache / images.listing.digest(FORMAT, images.channels, images.side, keep, of="files")[:32]
    for _ in range(ATTEMPTS):
        if decoded := _read(folder, keep):
            return decoded
        remove(folder)  # it is damaged, if it is there
        with atomic_write(folder) as aside:
            aside.mkdir()
            _write(aside, images, keep)
    raise OSError(f"{folder} was written but cannot be read back")


def moments(pixels: Tensor) -> Tensor:
    """uint8 (N, C, H, W) -> int64 (N, C, 2): each channel's sum of pixels and sum of squares."""
    parts = [torch.empty(0, pixels.shape[1], 2, dtype=torch.int64)]
    for part in pixels.flatten(2).split(256):
        values = part.double()  # holds every sum exactly
        sums = values.sum(-1), torch.linalg.vecdot(values, values)
        parts.append(torch.stack(sums, dim=-1).long())  # (n, C, 2)
    return torch.cat(parts)


def statistics(sums: Tensor, area: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, in 0..1, from int64 (N, C, 2) of `moments` of `area` pixels each.

    Exact but for the last rounding. A channel that never changes gets the deviation 1/255.
    """
    n = len(sums) * area
    totals = [(int(s), int(q)) for s, q in sums.sum(0).tolist()]
    mean = tuple(s / (n * 255) for s, _ in totals)
    std = tuple((math.sqrt(n * q - s * s) or n) / (n * 255) for s, q in totals)
    return mean, std


def _write(folder: Path, images: Streamed, keep: Keep) -> None:
    """Writes moments.npy, images.json and, if they are to be kept, pixels.npy into an empty folder."""
    from tqdm import tqdm

    shape = (len(images), images.channels, images.side, images.side)
    sums = np.zeros((*shape[:2], 2), np.int64)
    kept = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, shape) if keep == "pixels" else None
    parts = chunks(np.arange(len(images)))
    reasons: dict[int, str] = {}
    with tqdm(total=len(images), unit="images", desc="decoding", delay=1, disable=None) as bar:
        for indices, (pixels, _, bad) in zip(parts, images.decode(parts), strict=True):
            sums[indices] = moments(pixels).numpy()
            if kept is not None:
                kept[indices] = pixels.numpy()
            reasons |= bad
            bar.update(len(indices))
    del kept  # its last pages are written
    np.save(folder / "moments.npy", sums)
    hashes = {file.name: sha256(file) for file in folder.iterdir()}
    (folder / "images.json").write_text(json.dumps({"bad": reasons, "sha256": hashes}), encoding="utf-8")


def _read(folder: Path, keep: Keep) -> Decoded | None:
    """What a folder holds; None if there is nothing, or it is damaged."""
    try:
        meta = json.loads((folder / "images.json").read_text(encoding="utf-8"))
        bad = {int(index): str(reason) for index, reason in meta["bad"].items()}
        if any(sha256(folder / name) != digest for name, digest in meta["sha256"].items()):
            return None
        sums = np.load(folder / "moments.npy")
        pixels = np.load(folder / "pixels.npy", mmap_mode="c") if keep == "pixels" else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Decoded(sums, bad, None if pixels is None else torch.from_numpy(np.asarray(pixels)))
