"""Files are decoded once, kept, and decoded again where anything changed or is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.vision.data.loading import Load, pixels, same
from vision.data import cache, decoding
from vision.data.files import Layout, Stored


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    names: list[str] = []
    original = decoding.read_stored

    def read(path: Path, layout: Layout) -> Stored:
        names.append(path.name)
        return original(path, layout)

    monkeypatch.setattr(decoding, "read_stored", read)
    return names


def test_files_are_decoded_once(load: Load, image_folder: Path, decoded: list[str]) -> None:
    first = load(image_folder)
    assert len(decoded) == 41
    decoded.clear()
    assert same(first, load(image_folder))
    assert load(image_folder, seed=3, validation=0).preparation == first.preparation
    assert decoded == []
    load(image_folder, size=21)
    assert len(decoded) == 41


def test_a_file_that_changed_is_decoded_again(load: Load, image_folder: Path) -> None:
    first = load(image_folder)
    file = image_folder / "train" / "leaves" / "001.png"
    Image.new("RGB", (9, 9), "white").save(file)
    assert (pixels(load(image_folder).train)[15] == 255).all()
    assert load(image_folder).fingerprint != first.fingerprint
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert load(image_folder).fingerprint == load(image_folder).fingerprint


@pytest.mark.parametrize("file", ["pixels.npy", "moments.npy", "shown.npy", "contents.npy", "images.json"])
@pytest.mark.parametrize("fault", ["cut", "flipped", "absent"])
def test_a_damaged_cache_is_made_anew(
    file: str, fault: str, load: Load, image_folder: Path, tmp_path: Path, decoded: list[str]
) -> None:
    first = load(image_folder)
    decoded.clear()
    for kept in (tmp_path / "data" / "cache" / "images").glob(f"*/{file}"):
        content = bytearray(kept.read_bytes())
        content[len(content) // 2] ^= 255
        kept.unlink()  # which does not touch what `first` has mapped
        if fault != "absent":
            kept.write_bytes(content if fault == "flipped" else content[: len(content) // 2])
    assert same(first, load(image_folder))
    assert len(decoded) == 41


def test_an_interrupted_decoding_leaves_nothing(
    load: Load, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "read_stored", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load(image_folder)
    assert [file for file in (tmp_path / "data").rglob("*") if file.is_file()] == []
    assert len(load(image_folder).train) == 34


def test_the_cache_is_not_taken_for_that_of_a_folder_that_looks_alike(load: Load, tmp_path: Path) -> None:
    for folder, colour in (("one", "red"), ("two", "blue")):
        for file in (tmp_path / folder / name / "1.bmp" for name in ("a", "b")):
            file.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), colour).save(file)
            os.utime(file, ns=(0, 0))  # as some archives leave it
    one, two = (load(tmp_path / folder, validation=0) for folder in ("one", "two"))
    assert not torch.equal(pixels(one.train), pixels(two.train))


def test_a_channel_that_never_changes_is_not_divided_by_zero() -> None:
    mean, std = cache.statistics(cache.moments(torch.full((3, 1, 4, 4), 51, dtype=torch.uint8)), 16)
    assert (mean, std) == ((0.2,), pytest.approx((1 / 255,)))
