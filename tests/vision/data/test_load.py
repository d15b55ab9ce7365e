"""From a name or a folder to training, validation and test images: the split, the statistics, and what is refused."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vision.conftest import MakeFolder
from tests.vision.data.loading import Load, each, pixels, same
from vision.data.folder import list_part
from vision.data.load import Data, load_data, load_test
from vision.data.named import held_out


@pytest.fixture(scope="module")
def cifar(data_root: Path) -> Data:
    return load_data("cifar10", size=32, root=data_root)


def test_cifar_holds_out_5000_training_images_stratified(cifar: Data, data_root: Path) -> None:
    assert (len(cifar.train), len(cifar.validation)) == (45_000, 5_000)
    assert torch.bincount(cifar.validation.labels).tolist() == [500] * 10
    everything = load_data("cifar10", size=32, validation=0, root=data_root)
    assert (len(everything.train), len(everything.validation)) == (50_000, 0)
    assert sorted(each(cifar.train) + each(cifar.validation)) == sorted(each(everything.train))
    assert everything.fingerprint != cifar.fingerprint


def test_cifars_statistics_are_those_of_the_training_pixels(cifar: Data) -> None:
    found = cifar.preparation
    assert found.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=5e-4)
    assert found.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)
    values = np.arange(256) / 255
    for channel, mean, std in zip(range(3), found.mean, found.std, strict=True):
        counts = np.bincount(pixels(cifar.train)[:, channel].numpy().ravel(), minlength=256)
        assert mean == pytest.approx(np.average(values, weights=counts), rel=1e-12)
        assert std == pytest.approx(np.average((values - mean) ** 2, weights=counts) ** 0.5, rel=1e-12)


def test_prepared_training_images_have_mean_0_and_deviation_1(load: Load) -> None:
    data = load("digits", validation=700)
    images = data.preparation(pixels(data.train), 8)
    assert (images.shape, images.dtype) == ((738, 1, 8, 8), torch.float32)
    assert float(images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_the_test_images_are_the_official_ones(cifar: Data, data_root: Path) -> None:
    test = load_test("cifar10", cifar.preparation, root=data_root)
    assert torch.bincount(test.labels).tolist() == [1000] * 10


def test_grey_becomes_colours_in_every_part(tmp_path: Path) -> None:
    digits = load_data("digits", size=8, channels=3, root=tmp_path)
    assert pixels(digits.train).shape[1:] == (3, 8, 8)
    assert (pixels(digits.train) == pixels(digits.train)[:, :1]).all()
    assert load_test("digits", digits.preparation, root=tmp_path).sample(5).shape == (5, 3, 8, 8)


@pytest.mark.parametrize(("validation", "number"), [(None, 144), (200, 200), (0.25, 360), (0, 0), (1, 1), (1e-9, 1)])
def test_how_much_is_held_out(validation: float | None, number: int, load: Load) -> None:
    data = load("digits", validation=validation)
    assert (len(data.train), len(data.validation)) == (1438 - number, number)


@pytest.mark.parametrize("validation", [-1, 1438, 2.5, float("nan")])
def test_a_senseless_number_held_out_is_refused(validation: float, load: Load) -> None:
    with pytest.raises(ValueError, match=f"validation = {validation} .* below 1,438"):
        load("digits", validation=validation)


def test_the_seed_changes_what_is_held_out_and_the_fingerprint_knows(load: Load) -> None:
    first, second = (load("digits", seed=seed) for seed in (0, 1))
    assert same(first, load("digits"))
    assert not torch.equal(pixels(first.validation), pixels(second.validation))
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint != load("digits", channels=3).fingerprint


def test_a_run_of_an_older_version_finds_its_own_validation_images(load: Load, make_folder: MakeFolder) -> None:
    root = make_folder(*(word for name in "abcdefgh" for word in (name, 5)))  # four of eight classes have one held out
    now = load(root)
    labels = np.arange(40) // 5
    before = np.setdiff1d(np.arange(40), held_out(labels, 4, 0, ties="first"))
    listing = list_part(root, "train")
    assert listing is not None
    fingerprint = hashlib.sha256(listing.digest(3, 16).encode() + before.tobytes()).hexdigest()
    again = load(root, matches=lambda recorded: recorded == fingerprint)
    assert again.validation.labels.tolist() == [0, 1, 2, 3]
    assert again.fingerprint == fingerprint != now.fingerprint
    assert load(root, matches=lambda recorded: False).fingerprint == now.fingerprint


def test_an_unknown_name_suggests_the_nearest(load: Load) -> None:
    with pytest.raises(ValueError, match=r"no folder 'cifar-10', and no image set .*; did you mean 'cifar10'\?"):
        load("cifar-10")
    with pytest.raises(ValueError, match="'/nowhere/else'.*known are: digits, cifar10, cifar100"):
        load("/nowhere/else")


def test_bad_choices_are_refused(load: Load, image_folder: Path) -> None:
    with pytest.raises(ValueError, match="channels = 2 must be 1 or 3"):
        load("digits", channels=2)
    with pytest.raises(ValueError, match="storage = 'disk' is not one of: auto, memory, stream"):
        load(image_folder, storage="disk")


def test_a_folder_with_parts(load: Load, image_folder: Path, tmp_path: Path) -> None:
    data = load(image_folder)
    assert data.preparation.classes == ("apples", "leaves", "skies")
    assert (data.preparation.side, data.preparation.crop, data.preparation.channels) == (16, 7 / 8, 3)
    assert torch.bincount(data.train.labels).tolist() == [14, 11, 9]
    assert torch.bincount(data.validation.labels).tolist() == [3, 2, 2]
    assert pixels(data.train).shape == (34, 3, 16, 16)
    test = load_test(str(image_folder), data.preparation, root=tmp_path / "data")
    assert torch.bincount(test.labels).tolist() == [2, 3, 2]


def test_stored_pixels_are_what_the_preparation_reads_from_the_file(load: Load, image_folder: Path) -> None:
    data = load(image_folder, channels=1)
    files = sorted((image_folder / "train" / "leaves").iterdir())
    assert torch.equal(pixels(data.train)[14:25], torch.stack([data.preparation.read(file) for file in files]))


def test_without_parts_a_tenth_is_held_out_stratified(load: Load, make_folder: MakeFolder) -> None:
    data = load(make_folder("apples", 20, "leaves", 9, "deeper/down", 11))
    assert data.preparation.classes == ("apples", "deeper", "leaves")
    assert torch.bincount(data.train.labels).tolist() == [18, 10, 8]
    assert torch.bincount(data.validation.labels).tolist() == [2, 1, 1]
    with pytest.raises(ValueError, match=r"has no test images: they are looked for in .*photos/test"):
        load_test(data.name, data.preparation)


def test_none_of_a_folders_own_validation_is_trained_on(load: Load, image_folder: Path) -> None:
    data = load(image_folder, validation=0)
    assert (len(data.train), len(data.validation)) == (34, 0)
    with pytest.raises(ValueError, match=r"validation = 5 has no effect: .*photos/val holds the validation images"):
        load(image_folder, validation=5)


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_the_validation_part(name: str, load: Load, image_folder: Path) -> None:
    (image_folder / "val").rename(image_folder / name)
    assert len(load(image_folder).validation) == 7


def test_training_reads_nothing_in_the_test_folder(load: Load, image_folder: Path) -> None:
    shutil.rmtree(image_folder / "test")
    (image_folder / "test").mkdir()
    (image_folder / "test" / "senseless").write_text("no images, no classes")
    assert len(load(image_folder).train) == 34


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ((), r"photos has no class folders: images are looked for at .*CLASS/\*\.jpg"),
        (("apples", 3), r"photos has one class only, 'apples'"),
        (("apples", 3, "leaves", 0), r"class folder .*photos/leaves has no images: they end in \.jpg"),
        (("train/apples", 3, "train/leaves", 0), r"class folder .*train/leaves has no images"),
        (
            ("train/apples", 3, "train/leaves", 3, "val/apples", 3, "val/skies", 3),
            r"photos/val has classes that .*photos/train does not have: skies$",
        ),
        (("val/apples", 3, "test/apples", 3), r"photos has .*val and .*test but no .*train to train on"),
        (("apples", 2, "leaves", 1), None),
    ],
)
def test_folders_that_are_refused(
    counts: tuple[str | int, ...], sentence: str | None, load: Load, make_folder: MakeFolder
) -> None:
    folder = make_folder(*counts)
    folder.mkdir(exist_ok=True)
    if sentence is None:
        assert len(load(folder).train) == 2
        return
    with pytest.raises(ValueError, match=sentence) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_a_class_is_not_held_out_whole(load: Load, make_folder: MakeFolder) -> None:
    with pytest.raises(ValueError, match="2 images held out for validation leave none of 'leaves' to train on"):
        load(make_folder("apples", 2, "leaves", 1), validation=2)


def test_test_images_of_other_classes_are_refused(load: Load, image_folder: Path, tmp_path: Path) -> None:
    found = load(image_folder).preparation
    other = replace(found, classes=("apples", "leaves", "stones"))
    with pytest.raises(ValueError, match=r"photos/test has classes that the model does not have: skies$"):
        load_test(str(image_folder), other, root=tmp_path)
    with pytest.raises(ValueError, match="digits has classes that the model does not have: 0; 1; 2; and 7 more"):
        load_test("digits", found, root=tmp_path)


def test_hidden_files_and_those_that_are_no_images_are_counted_and_left_out(
    load: Load, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (image_folder / "train" / ".cache").mkdir()
    (image_folder / "train" / "leaves" / ".hidden.jpg").write_bytes(b"")
    (image_folder / "train" / "leaves" / "notes.txt").write_text("words")
    assert len(load(image_folder).train) == 34
    out, err = capsys.readouterr()
    assert out == ""
    left_out = "hidden files and folders (2), files that are not images (1: .txt)"
    assert err.splitlines() == [f"notice: left out in {image_folder / 'train'}: {left_out}"]


def test_training_batches_are_made_where_the_images_fit(load: Load) -> None:
    batches = load("digits").training(6, seed=0, device=torch.device("cpu"))
    assert [micro[0].shape for micro in batches.batch(0, 1, 3)] == [(2, 1, 8, 8)]


@pytest.mark.gpu
def test_a_gpu_holds_the_images_and_makes_the_batches(load: Load) -> None:
    data, device = load("digits"), torch.device("cuda")
    here, there = (data.training(64, seed=0, device=d).batch(3) for d in (torch.device("cpu"), device))
    assert all(part.is_cuda for part in there[0])
    assert torch.equal(there[0][0].cpu(), here[0][0])
    prepared = [data.preparation(batch[0], 20).cpu() for [batch] in (here, there)]
    assert torch.allclose(*prepared, atol=1e-4)
