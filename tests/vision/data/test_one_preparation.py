"""One way to prepare images: what evaluation gets, of any kind of data, is what prediction reads from the files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from PIL import Image

from tests.vision.conftest import MakeFolder
from tests.vision.data.loading import Load
from vision.data.batches import ImageSet
from vision.data.files import Fit
from vision.data.load import load_data, load_part
from vision.data.named import read_named
from vision.data.preparation import Preparation

DIGITS = tuple("0123456789")
FIGURES = {1: ((0.3,), (0.4,)), 3: ((0.3, 0.4, 0.5), (0.2, 0.3, 0.4))}


def preparation(classes: tuple[str, ...], channels: int, side: int, crop: float, fit: Fit) -> Preparation:
    mean, std = FIGURES[channels]
    return Preparation(classes, channels, mean, std, side, crop, fit)


RUNS: dict[str, tuple[int, int, float, Fit]] = {
    "a named set": (1, 8, 1.0, "crop"),
    "a named set in colour, enlarged": (3, 12, 1.0, "crop"),
    "a folder": (3, 16, 7 / 8, "crop"),
    "a folder, padded": (3, 14, 1.0, "pad"),
    "a folder, squashed": (1, 14, 1.0, "squash"),
}
Storage = Literal["memory", "stream"]


def stored(images: ImageSet) -> torch.Tensor:
    return images.sample(10_000)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("storage", ["memory", "stream"])
def test_every_part_of_a_folder_is_stored_as_prediction_reads_its_files(
    run: str, storage: Storage, make_folder: MakeFolder, tmp_path: Path
) -> None:
    root = make_folder("train/a", 6, "train/b", 5, "val/b", 3, "val/a", 2, "test/a", 2, "test/b", 3)
    model = preparation(("b", "a"), *RUNS[run])  # in another order than a folder sorts them
    for part, folder in (("train", "train"), ("validation", "val"), ("test", "test")):
        images = load_part(str(root), part, model, storage=storage, root=tmp_path / "data")  # type: ignore[arg-type]
        files = sorted((root / folder).rglob("*.*"))
        assert torch.equal(stored(images), torch.stack([model.read(file) for file in files]))
        assert images.labels.tolist() == [("b", "a").index(file.parent.name) for file in files]


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_one_part_alone_is_enough_to_evaluate_on(part: str, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(f"{part}/a", 3, f"{part}/b", 2)
    model = preparation(("a", "b"), *RUNS["a folder"])
    name = {"val": "validation"}.get(part, part)
    images = load_part(str(root), name, model, root=tmp_path / "data")  # type: ignore[arg-type]
    files = sorted(root.rglob("*.*"))
    assert torch.equal(stored(images), torch.stack([model.read(file) for file in files]))


@pytest.mark.parametrize("run", RUNS)
def test_a_named_set_is_stored_as_if_its_images_were_files(run: str, tmp_path: Path) -> None:
    model = preparation(DIGITS, *RUNS[run])
    images = load_part("digits", "test", model, root=tmp_path)
    pixels, labels, _ = read_named("digits", "test", tmp_path)
    assert torch.equal(images.labels, labels)
    for number in range(0, 359, 60):
        file = tmp_path / f"{number}.png"
        Image.fromarray(pixels[number, 0].numpy()).save(file)
        assert torch.equal(stored(images)[number], model.read(file))


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_what_training_holds_out_is_what_evaluation_finds_again(
    fit: Fit, make_folder: MakeFolder, load: Load, tmp_path: Path
) -> None:
    root = make_folder("a", 9, "b", 11)
    trained = load(root, fit=fit, crop=0.9, validation=0.25, channels=1)
    again = load_data(str(root), size=14, validation=0.25, preparation=trained.preparation, root=tmp_path / "data")
    assert again.fingerprint == trained.fingerprint
    assert again.preparation == trained.preparation
    for one, other in ((trained.train, again.train), (trained.validation, again.validation)):
        assert torch.equal(stored(one), stored(other))
        assert torch.equal(one.labels, other.labels)


def test_all_of_an_image_is_seen_where_it_is_padded_or_squashed(tmp_path: Path) -> None:
    wide = Image.new("RGB", (80, 20), "blue")
    wide.paste("red", (0, 0, 10, 20))
    wide.save(tmp_path / "wide.png")
    seen = {}
    for fit in ("crop", "pad", "squash"):
        pixels = preparation(("a", "b"), 3, 16, 1.0, fit).read(tmp_path / "wide.png").float()  # type: ignore[arg-type]
        seen[fit] = (bool((pixels[0] > 200).any()), bool((pixels.sum(0) == 0).any()))
    assert seen == {"crop": (False, False), "pad": (True, True), "squash": (True, False)}


def test_pixels_that_are_never_seen_are_told(
    load: Load, make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder("a", 6, "b", 6)
    load(root)
    assert capsys.readouterr().err == ""
    for file in (root / "a").iterdir():
        Image.open(file).resize((60, 20)).save(file)
    load(root)
    [line] = capsys.readouterr().err.splitlines()
    assert "% of the pixels" in line
    assert "--fit pad" in line
    for fit in ("pad", "squash"):
        load(root, fit=fit)
    assert capsys.readouterr().err == ""
