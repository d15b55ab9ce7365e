"""Small pictures, a folder of them, and a published image set on a server of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeFolder = Callable[..., Path]

COLOURS = {"apples": (200, 40, 40), "leaves": (40, 180, 60), "skies": (60, 90, 210), "stones": (120, 120, 120)}


def picture(name: str, number: int, place: str = "") -> Image.Image:
    """A picture of a class: its colour with noise, of a size and shape that change with the number."""
    rng = np.random.default_rng([number, *f"{place}/{name}".encode()])
    shape = (18 + number % 4, 17 + number % 5, 3)
    noise = rng.normal(0, 25, shape)
    return Image.fromarray(np.clip(COLOURS.get(name, (90, 90, 90)) + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """make_folder("train/apples", 8, ...): writes so many pictures into each class folder; returns the root."""

    def make(*counts: str | int, root: str = "photos") -> Path:
        folder = tmp_path / root
        for name, count in zip(counts[::2], counts[1::2], strict=True):
            place = folder / str(name)
            place.mkdir(parents=True, exist_ok=True)
            for number in range(int(count)):
                suffix = ("jpg", "png", "JPEG")[number % 3]
                picture(place.name, number, f"{root}/{name}").save(place / f"{number:03d}.{suffix}", quality=95)
        return folder

    return make


@pytest.fixture
def image_folder(make_folder: MakeFolder) -> Path:
    """Three classes in folders train (14, 11, 9 pictures), val (3, 2, 2) and test (2, 3, 2)."""
    counts = {"train": (14, 11, 9), "val": (3, 2, 2), "test": (2, 3, 2)}
    words = [(f"{part}/{name}", n) for part, ns in counts.items() for name, n in zip(COLOURS, ns, strict=False)]
    return make_folder(*(word for pair in words for word in pair))


@pytest.fixture
def spoil() -> Callable[[Path], dict[str, Path]]:
    """Adds a zero-byte, a cut-off and a senseless file to a class folder; their paths by kind."""

    def spoil(folder: Path) -> dict[str, Path]:
        whole = next(folder.glob("*.jpg")).read_bytes()
        contents = {"empty": b"", "cut": whole[:-100], "senseless": b"no image at all" * 9}
        for kind, content in contents.items():
            (folder / f"{kind}.jpg").write_bytes(content)
        return {kind: folder / f"{kind}.jpg" for kind in contents}

    return spoil
