"""A part of a data set as it is read: channels, storage, and bad images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.vision.data.loading import Load, same
from vision.data import decoding, reading
from vision.data.batches import Images


def test_colours_become_grey_as_pillow_has_it() -> None:
    colours = torch.randint(256, (9, 3, 40, 40), dtype=torch.uint8)
    for image, grey in zip(colours, reading.with_channels(colours, 1), strict=True):
        assert (grey[0].numpy() == np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))).all()


def test_bad_images_are_named(
    load: Load, image_folder: Path, spoil: Callable[[Path], dict[str, Path]], tmp_path: Path
) -> None:
    bad = spoil(image_folder / "train" / "leaves")
    with pytest.raises(ValueError, match="^cannot decode 3 of 37 images: .*--skip-bad leaves them out$") as error:
        load(image_folder)
    assert f"{bad['cut']} cannot be read as an image: image file is truncated" in str(error.value)
    assert f"{bad['empty']} is empty" in str(error.value)
    assert f"{bad['senseless']} cannot be read" in str(error.value)
    assert "\n" not in str(error.value)


def test_skipped_bad_images_are_counted_and_named(
    load: Load,
    image_folder: Path,
    spoil: Callable[[Path], dict[str, Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = load(image_folder)
    folder = image_folder / "train" / "leaves"
    bad = spoil(folder)
    for number in range(4):
        shutil.copy(bad["empty"], folder / f"empty-{number}.jpg")
    assert same(whole, load(image_folder, skip_bad=True))
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"notice: left out 7 of 41 images: {bad['cut']} cannot be read")
    assert line.endswith("; and 4 more")
    assert same(whole, load(image_folder, skip_bad=True))  # as the cache has it
    with pytest.raises(ValueError, match="cannot decode 7 of 41 images"):
        load(image_folder)


def test_a_class_of_bad_images_alone_is_refused(
    load: Load, image_folder: Path, spoil: Callable[[Path], dict[str, Path]]
) -> None:
    folder = image_folder / "train" / "leaves"
    bad = set(spoil(folder).values())
    for file in set(folder.iterdir()) - bad:
        file.unlink()
    with pytest.raises(ValueError, match=f"class folder {folder} has only bad images"):
        load(image_folder, skip_bad=True)


def test_a_folder_too_large_for_memory_is_streamed(
    load: Load, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(load(image_folder).train, Images)
    monkeypatch.setattr(reading, "available_memory", lambda: 41 * 3 * 16 * 16 * 2 - 1)
    assert isinstance(load(image_folder).train, decoding.Streamed)
    assert isinstance(load(image_folder, storage="memory").train, Images)
    monkeypatch.setattr(reading, "available_memory", lambda: 41 * 3 * 16 * 16 * 2)
    assert isinstance(load(image_folder).train, Images)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert isinstance(load(image_folder).train, decoding.Streamed)
