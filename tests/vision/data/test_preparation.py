"""Stored pixels become a model's input, and the description of how survives its file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vision.augmentation.config import CROP
from vision.data.preparation import Preparation


def test_a_preparation_survives_its_file(tmp_path: Path) -> None:
    preparation = Preparation(tuple("abc"), 3, (0.4914, 1 / 3, 0.4465), (0.2470, 0.1, 1 / 7), 32, 7 / 8)
    preparation.save(tmp_path)
    assert Preparation.load(tmp_path) == preparation
    fields = json.loads((tmp_path / "images.json").read_text())
    (tmp_path / "images.json").write_text(json.dumps(fields | {"channels": 2}))
    with pytest.raises(ValueError, match="channels = 2 must be 1 or 3"):
        Preparation.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"classes": ("a",)}, "classes"),
        ({"classes": ("a", "a")}, "classes"),
        ({"channels": 4}, "channels = 4"),
        ({"mean": (0.5,)}, "mean = "),
        ({"std": (0.5, 0.0, 0.5)}, "std"),
        ({"side": 0}, "side = 0"),
        ({"crop": 1.5}, "crop = 1.5"),
    ],
)
def test_a_preparation_refuses_nonsense(change: dict[str, object], sentence: str) -> None:
    good = Preparation(("a", "b"), 3, (0.5,) * 3, (0.2,) * 3, 32)
    with pytest.raises(ValueError, match=sentence):
        replace(good, **change)  # type: ignore[arg-type]


def test_images_of_the_models_size_keep_their_pixels() -> None:
    preparation = Preparation(("a", "b"), 1, (0.0,), (1.0,), 8)
    images = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(preparation(images, 8), images / 255)


def test_a_folders_images_are_cropped_at_the_centre_and_not_resized() -> None:
    for size in range(1, 600):
        side = round(size / CROP)
        images = torch.arange(side, dtype=torch.float32).mul(255 / side).byte().expand(1, 1, 1, side)
        preparation = Preparation(("a", "b"), 1, (0.0,), (1.0,), side, 7 / 8)
        top = (side - size) // 2
        wide = images.expand(1, 1, side, side)
        assert torch.equal(preparation(wide, size), (wide / 255)[..., top : top + size, top : top + size])


def test_resizing_is_antialiased_as_pillows() -> None:
    images = torch.randint(90, 160, (2, 3, 64, 64), dtype=torch.uint8)  # Pillow clips between rows and columns as well
    preparation = Preparation(("a", "b"), 3, (0.0,) * 3, (1.0,) * 3, 64)
    for size in (20, 64, 96):
        for image, found in zip(images, preparation(images, size), strict=True):
            pillow = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling.BICUBIC)
            assert np.abs(found.permute(1, 2, 0).numpy() * 255 - np.asarray(pillow)).max() <= 1.5


def test_of_images_that_are_not_square_the_centre_is_taken() -> None:
    images = torch.zeros(1, 1, 8, 20, dtype=torch.uint8)
    images[..., 6:14] = 255
    assert (Preparation(("a", "b"), 1, (0.0,), (1.0,), 8)(images, 8) == 1).all()
