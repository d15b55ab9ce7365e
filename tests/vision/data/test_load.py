"""From a name or a folder to batches: the split, the pixels, the statistics, the order, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.vision.conftest import MakeFolder
from vision.data import load as module
from vision.data import stream
from vision.data.files import SUFFIXES
from vision.data.load import (
    Data,
    Images,
    Preparation,
    TrainingImages,
    cached_side,
    evaluation_batches,
    load_data,
    load_test,
)


@pytest.fixture(scope="module")
def cifar(data_root: Path) -> Data:
    return load_data("cifar10", size=32, root=data_root)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Data]:
    """load_data at size 14, which stores 16 x 16 pixels, with the cache in a folder of this test."""

    def load(folder: Path | str, **options: object) -> Data:
        return load_data(str(folder), **{"size": 14, "root": tmp_path / "data"} | options)  # type: ignore[arg-type]

    return load


def pixels(images: object) -> torch.Tensor:
    assert isinstance(images, Images)
    return images.pixels


def each(images: object) -> list[int]:
    """A number for each image, by which it is known."""
    return [hash(image.tobytes()) for image in pixels(images).numpy()]


def same(one: Data, other: Data) -> bool:
    parts = [(getattr(data, part) for data in (one, other)) for part in ("train", "validation")]
    return one.fingerprint == other.fingerprint and all(
        torch.equal(pixels(a), pixels(b)) and torch.equal(a.labels, b.labels) for a, b in parts
    )


# ---------------------------------------------------------------------------------- named sets


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


def test_prepared_training_images_have_mean_0_and_deviation_1(load: Callable[..., Data]) -> None:
    data = load("digits", validation=700)
    images = data.preparation(pixels(data.train), 8)
    assert (images.shape, images.dtype) == ((738, 1, 8, 8), torch.float32)
    assert float(images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_the_test_images_are_the_official_ones_and_behind_a_door_of_their_own(cifar: Data, data_root: Path) -> None:
    test = load_test("cifar10", cifar.preparation, root=data_root)
    assert torch.bincount(test.labels).tolist() == [1000] * 10


def test_colours_become_grey_as_pillow_has_it() -> None:
    colours = torch.randint(256, (9, 3, 40, 40), dtype=torch.uint8)
    for image, grey in zip(colours, module._with_channels(colours, 1), strict=True):
        assert (grey[0].numpy() == np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))).all()


def test_grey_becomes_colours_in_every_part(tmp_path: Path) -> None:
    digits = load_data("digits", size=8, channels=3, root=tmp_path)
    assert pixels(digits.train).shape[1:] == (3, 8, 8)
    assert (pixels(digits.train) == pixels(digits.train)[:, :1]).all()
    assert load_test("digits", digits.preparation, root=tmp_path).some(5).shape == (5, 3, 8, 8)


@pytest.mark.parametrize(("validation", "number"), [(None, 144), (200, 200), (0.25, 360), (0, 0), (1, 1), (1e-9, 1)])
def test_how_much_is_held_out(validation: float | None, number: int, load: Callable[..., Data]) -> None:
    data = load("digits", validation=validation)
    assert (len(data.train), len(data.validation)) == (1438 - number, number)


@pytest.mark.parametrize("validation", [-1, 1438, 2.5, float("nan")])
def test_a_senseless_number_held_out_is_refused(validation: float, load: Callable[..., Data]) -> None:
    with pytest.raises(ValueError, match=f"validation = {validation} must be a number of images below 1,438, or a fra"):
        load("digits", validation=validation)


def test_the_seed_changes_what_is_held_out_and_the_fingerprint_knows(load: Callable[..., Data]) -> None:
    first, second = (load("digits", seed=seed) for seed in (0, 1))
    assert same(first, load("digits"))
    assert not torch.equal(pixels(first.validation), pixels(second.validation))
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint != load("digits", channels=3).fingerprint


def test_an_unknown_name_suggests_the_nearest(load: Callable[..., Data]) -> None:
    with pytest.raises(ValueError, match=r"no folder 'cifar-10', and no image set .*; did you mean 'cifar10'\?"):
        load("cifar-10")
    with pytest.raises(
        ValueError, match="no image set of that name; known are: digits, cifar10, cifar100, mnist, fash"
    ):
        load("/nowhere/else")


def test_bad_choices_are_refused(load: Callable[..., Data], image_folder: Path) -> None:
    with pytest.raises(ValueError, match="channels = 2 must be 1 or 3"):
        load("digits", channels=2)
    with pytest.raises(ValueError, match="storage = 'disk' is not one of: auto, memory, stream"):
        load(image_folder, storage="disk")


# ---------------------------------------------------------------------------------- folders


def test_a_folder_with_parts(load: Callable[..., Data], image_folder: Path, tmp_path: Path) -> None:
    data = load(image_folder)
    assert data.preparation.classes == ("apples", "leaves", "skies")
    assert (data.preparation.side, data.preparation.crop, data.preparation.channels) == (16, 7 / 8, 3)
    assert torch.bincount(data.train.labels).tolist() == [14, 11, 9]
    assert torch.bincount(data.validation.labels).tolist() == [3, 2, 2]
    assert pixels(data.train).shape == (34, 3, 16, 16)
    test = load_test(str(image_folder), data.preparation, root=tmp_path / "data")
    assert torch.bincount(test.labels).tolist() == [2, 3, 2]


def test_stored_pixels_are_what_the_preparation_reads_from_the_file(
    load: Callable[..., Data], image_folder: Path
) -> None:
    data = load(image_folder, channels=1)
    files = sorted((image_folder / "train" / "leaves").iterdir())
    assert torch.equal(pixels(data.train)[14:25], torch.stack([data.preparation.read(file) for file in files]))


def test_without_parts_a_tenth_is_held_out_stratified(load: Callable[..., Data], make_folder: MakeFolder) -> None:
    data = load(make_folder("apples", 20, "leaves", 9, "deeper/down", 11))
    assert data.preparation.classes == ("apples", "deeper", "leaves")
    assert torch.bincount(data.train.labels).tolist() == [18, 10, 8]
    assert torch.bincount(data.validation.labels).tolist() == [2, 1, 1]
    with pytest.raises(ValueError, match=r"has no test images: they are looked for in .*photos/test"):
        load_test(data.name, data.preparation)


def test_none_of_a_folders_own_validation_is_trained_on(load: Callable[..., Data], image_folder: Path) -> None:
    data = load(image_folder, validation=0)
    assert (len(data.train), len(data.validation)) == (34, 0)
    with pytest.raises(ValueError, match=r"validation = 5 has no effect: .*photos/val holds the validation images"):
        load(image_folder, validation=5)


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_the_validation_part(name: str, load: Callable[..., Data], image_folder: Path) -> None:
    (image_folder / "val").rename(image_folder / name)
    assert len(load(image_folder).validation) == 7


def test_training_looks_at_nothing_in_the_test_folder(load: Callable[..., Data], image_folder: Path) -> None:
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
        (("train/apples", 3, "train/leaves", 3, "val/apples", 3), "val has one class only, 'apples'"),
        (
            ("train/apples", 3, "train/leaves", 3, "val/apples", 3, "val/skies", 3),
            r"photos/val has other classes than .*photos/train: leaves; skies$",
        ),
        (("val/apples", 3, "test/apples", 3), r"photos has .*val and .*test but no .*train to train on"),
        (("apples", 2, "leaves", 1), None),
    ],
)
def test_folders_that_are_refused(
    counts: tuple[str | int, ...], sentence: str | None, load: Callable[..., Data], make_folder: MakeFolder
) -> None:
    folder = make_folder(*counts)
    folder.mkdir(exist_ok=True)
    if sentence is None:
        assert len(load(folder).train) == 2
        return
    with pytest.raises(ValueError, match=sentence) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_a_class_is_not_held_out_whole(load: Callable[..., Data], make_folder: MakeFolder) -> None:
    with pytest.raises(ValueError, match="2 images held out for validation leave none of 'leaves' to train on"):
        load(make_folder("apples", 2, "leaves", 1), validation=2)


def test_test_images_of_other_classes_are_refused(
    load: Callable[..., Data], image_folder: Path, tmp_path: Path
) -> None:
    found = load(image_folder).preparation
    other = replace(found, classes=("apples", "leaves", "stones"))
    with pytest.raises(ValueError, match=r"photos/test has other classes than the model: skies; stones$"):
        load_test(str(image_folder), other, root=tmp_path)
    with pytest.raises(ValueError, match="digits has other classes than the model, which knows apples, leaves, skies"):
        load_test("digits", found, root=tmp_path)


def test_hidden_files_and_those_that_are_no_images_are_counted_and_left_out(
    load: Callable[..., Data], image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (image_folder / "train" / ".cache").mkdir()
    (image_folder / "train" / "leaves" / ".hidden.jpg").write_bytes(b"")
    (image_folder / "train" / "leaves" / "notes.txt").write_text("words")
    assert len(load(image_folder).train) == 34
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"notice: left out 2 files in {image_folder / 'train'}, hidden or no images: those end in {' '.join(SUFFIXES)}"
    ]


# ---------------------------------------------------------------------------------- bad images


def test_bad_images_are_named(
    load: Callable[..., Data], image_folder: Path, spoil: Callable[[Path], dict[str, Path]], tmp_path: Path
) -> None:
    bad = spoil(image_folder / "train" / "leaves")
    with pytest.raises(ValueError, match="^cannot decode 3 of 37 images: .*--skip-bad leaves them out$") as error:
        load(image_folder)
    assert f"{bad['cut']} cannot be read as an image: image file is truncated" in str(error.value)
    assert f"{bad['empty']} is empty" in str(error.value)
    assert f"{bad['senseless']} cannot be read" in str(error.value)
    assert "\n" not in str(error.value)


def test_skipped_bad_images_are_counted_and_named(
    load: Callable[..., Data],
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
    load: Callable[..., Data], image_folder: Path, spoil: Callable[[Path], dict[str, Path]]
) -> None:
    folder = image_folder / "train" / "leaves"
    bad = set(spoil(folder).values())
    for file in set(folder.iterdir()) - bad:
        file.unlink()
    with pytest.raises(ValueError, match=f"class folder {folder} has no image but bad ones"):
        load(image_folder, skip_bad=True)


# ---------------------------------------------------------------------------------- the cache


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    names: list[str] = []
    original = stream.read_pixels

    def read(path: Path, channels: int, side: int) -> torch.Tensor:
        names.append(path.name)
        return original(path, channels, side)

    monkeypatch.setattr(stream, "read_pixels", read)
    return names


def test_files_are_decoded_once(load: Callable[..., Data], image_folder: Path, decoded: list[str]) -> None:
    first = load(image_folder)
    assert len(decoded) == 41
    decoded.clear()
    assert same(first, load(image_folder))
    assert load(image_folder, seed=3, validation=0).preparation == first.preparation
    assert decoded == []
    load(image_folder, size=21)
    assert len(decoded) == 41


def test_a_file_that_changed_is_decoded_again(load: Callable[..., Data], image_folder: Path) -> None:
    first = load(image_folder)
    file = image_folder / "train" / "leaves" / "001.png"
    Image.new("RGB", (9, 9), "white").save(file)
    assert (pixels(load(image_folder).train)[15] == 255).all()
    assert load(image_folder).fingerprint != first.fingerprint
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert load(image_folder).fingerprint == load(image_folder).fingerprint


@pytest.mark.parametrize("file", ["pixels.npy", "moments.npy", "images.json"])
@pytest.mark.parametrize("fault", ["cut", "flipped", "absent"])
def test_a_damaged_cache_is_made_anew(
    file: str, fault: str, load: Callable[..., Data], image_folder: Path, tmp_path: Path, decoded: list[str]
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
    load: Callable[..., Data], image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stream, "read_pixels", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load(image_folder)
    assert [file for file in (tmp_path / "data").rglob("*") if file.is_file()] == []
    assert len(load(image_folder).train) == 34


def test_the_cache_is_not_taken_for_that_of_a_folder_that_looks_alike(
    load: Callable[..., Data], tmp_path: Path
) -> None:
    for folder, colour in (("one", "red"), ("two", "blue")):
        for file in (tmp_path / folder / name / "1.bmp" for name in ("a", "b")):
            file.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), colour).save(file)
            os.utime(file, ns=(0, 0))  # as some archives leave it
    one, two = (load(tmp_path / folder, validation=0) for folder in ("one", "two"))
    assert not torch.equal(pixels(one.train), pixels(two.train))


# ---------------------------------------------------------------------------------- preparation


def test_a_preparation_survives_its_file(cifar: Data, tmp_path: Path) -> None:
    cifar.preparation.save(tmp_path)
    assert Preparation.load(tmp_path) == cifar.preparation
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
        side = cached_side(size)
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


def test_images_that_are_not_square_are_seen_at_their_centre() -> None:
    images = torch.zeros(1, 1, 8, 20, dtype=torch.uint8)
    images[..., 6:14] = 255
    assert (Preparation(("a", "b"), 1, (0.0,), (1.0,), 8)(images, 8) == 1).all()


def test_a_channel_that_never_changes_is_not_divided_by_zero() -> None:
    mean, std = module.statistics(stream.moments(torch.full((3, 1, 4, 4), 51, dtype=torch.uint8)), 16)
    assert (mean, std) == ((0.2,), pytest.approx((1 / 255,)))


# ---------------------------------------------------------------------------------- batches


@pytest.fixture
def numbered() -> Images:
    """37 images, each its number."""
    numbers = torch.arange(37)
    return Images(numbers.byte().view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous(), numbers % 3)


def numbers_of(batch: tuple[torch.Tensor, torch.Tensor]) -> list[int]:
    images, labels = batch
    numbers = images[:, 0, 0, 0].tolist()
    assert images.dtype == torch.uint8
    assert labels.tolist() == [n % 3 for n in numbers]
    return numbers


def test_every_image_appears_once_an_epoch(numbered: Images) -> None:
    batches = TrainingImages(numbered, batch_size=5, seed=7)
    seen = [n for step in range(37) for n in numbers_of(batches.batch(step)[0])]
    for epoch in range(5):
        assert sorted(seen[37 * epoch : 37 * (epoch + 1)]) == list(range(37))
    assert seen[:37] != seen[37:74]


@pytest.mark.parametrize(("world", "accumulate"), [(1, 4), (2, 1), (3, 2), (2, 3)])
def test_any_number_of_processes_and_micro_batches_makes_the_same_global_batch(
    world: int, accumulate: int, numbered: Images
) -> None:
    alone = TrainingImages(numbered, 12, seed=1)
    ranks = [TrainingImages(numbered, 12, seed=1) for _ in range(world)]
    for step in (0, 1, 2, 7, 3):
        parts = [ranks[rank].batch(step, rank, world, accumulate) for rank in range(world)]
        assert all(len(part) == accumulate for part in parts)
        seen = [n for part in parts for micro in part for n in numbers_of(micro)]
        assert sorted(seen) == sorted(numbers_of(alone.batch(step)[0]))


def test_a_batch_is_a_pure_function_of_its_step(numbered: Images) -> None:
    straight, jumping = (TrainingImages(numbered, 8, seed=2) for _ in range(2))
    expected = {step: numbers_of(straight.batch(step)[0]) for step in range(12)}
    for step in (11, 0, 0, 1, 5, 6, 2):
        assert numbers_of(jumping.batch(step)[0]) == expected[step]


def test_bad_batch_sizes_are_refused(numbered: Images) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        TrainingImages(numbered, 0)
    with pytest.raises(
        ValueError, match=r"batch_size must be a multiple of 6 \(3 processes x 2 micro-batches\), got 8"
    ):
        TrainingImages(numbered, 8).batch(0, 0, 3, 2)


@pytest.mark.parametrize("world", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_evaluation_takes_every_image_once_over_all_processes(world: int, batch_size: int, numbered: Images) -> None:
    seen = []
    for rank in range(world):
        batches = [numbers_of(batch) for batch in evaluation_batches(numbered, batch_size, rank, world)]
        assert all(0 < len(batch) <= batch_size for batch in batches)
        seen += [n for batch in batches for n in batch]
    assert seen == list(range(37))


def test_evaluation_of_nothing_is_nothing(numbered: Images) -> None:
    assert list(evaluation_batches(numbered.subset(np.arange(0)), 4)) == []
    with pytest.raises(ValueError, match=r"rank in 0\.\.1, got 4 and 2"):
        evaluation_batches(numbered, 4, 2, 2)


def test_some_images_are_spread_over_all(numbered: Images) -> None:
    assert numbered.some(4)[:, 0, 0, 0].tolist() == [0, 9, 18, 27]
    assert len(numbered.some(1000)) == 37


def test_training_batches_are_made_where_the_images_fit(load: Callable[..., Data]) -> None:
    batches = load("digits").training(6, seed=0, device=torch.device("cpu"))
    assert [micro[0].shape for micro in batches.batch(0, 1, 3)] == [(2, 1, 8, 8)]


@pytest.mark.gpu
def test_a_gpu_holds_the_images_and_makes_the_batches(load: Callable[..., Data]) -> None:
    data, device = load("digits"), torch.device("cuda")
    here, there = (data.training(64, seed=0, device=d).batch(3) for d in (torch.device("cpu"), device))
    assert all(part.is_cuda for part in there[0])
    assert torch.equal(there[0][0].cpu(), here[0][0])
    prepared = [data.preparation(batch[0], 20).cpu() for [batch] in (here, there)]
    assert torch.allclose(*prepared, atol=1e-4)


def test_a_folder_too_large_for_memory_is_streamed(
    load: Callable[..., Data], image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(load(image_folder).train, Images)
    monkeypatch.setattr(module, "available_memory", lambda: 41 * 3 * 16 * 16 * 2 - 1)
    assert isinstance(load(image_folder).train, stream.Streamed)
    assert isinstance(load(image_folder, storage="memory").train, Images)
    monkeypatch.setattr(module, "available_memory", lambda: 41 * 3 * 16 * 16 * 2)
    assert isinstance(load(image_folder).train, Images)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert isinstance(load(image_folder).train, stream.Streamed)
