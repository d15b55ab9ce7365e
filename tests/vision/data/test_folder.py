"""What a folder says of itself: its parts and classes, links and runs in it, and all that is left out of it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch

from tests.vision.conftest import MakeFolder, picture
from tests.vision.data.loading import Load, pixels, same
from vision.data import decoding, files
from vision.data.files import Layout, Stored
from vision.data.folder import list_part, part_folders
from vision.data.inputs import find_images
from vision.data.load import load_part


@pytest.mark.parametrize("part", ["val", "Val", "VALID", "validation_set", "dev", "eval"])
@pytest.mark.parametrize("train", ["train", "Training", "training_set"])
def test_common_names_of_parts_in_any_case(train: str, part: str, load: Load, make_folder: MakeFolder) -> None:
    root = make_folder(f"{train}/a", 6, f"{train}/b", 6, f"{part}/a", 3, f"{part}/b", 3)
    data = load(root)
    assert data.preparation.classes == ("a", "b")
    assert (len(data.train), len(data.validation)) == (12, 6)


@pytest.mark.parametrize("test", ["test", "Testing", "test-images"])
def test_test_images_are_held_apart_whatever_they_are_called(
    test: str, load: Load, make_folder: MakeFolder, tmp_path: Path
) -> None:
    root = make_folder("Train/a", 10, "Train/b", 10, f"{test}/a", 2, f"{test}/b", 1)
    data = load(root)
    assert len(data.train) + len(data.validation) == 20
    assert load_part(str(root), "test", data.preparation, root=tmp_path / "data").labels.tolist() == [0, 0, 1]


def test_two_folders_for_one_part_are_refused(load: Load, image_folder: Path) -> None:
    shutil.copytree(image_folder / "val", image_folder / "dev")
    with pytest.raises(ValueError, match="dev and .*val both hold validation images"):
        load(image_folder)


@pytest.mark.parametrize("names", [("train", "bus", "car"), ("test", "control"), ("val", "train", "other")])
def test_a_class_may_be_called_like_a_part_where_another_lies_beside_it(
    names: tuple[str, ...], load: Load, make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load(make_folder(*(word for name in names for word in (name, 5))))
    assert data.preparation.classes == tuple(sorted(names))
    assert "taken for classes of" in capsys.readouterr().err


def test_folders_without_images_beside_parts_are_no_classes(load: Load, image_folder: Path) -> None:
    (image_folder / "annotations").mkdir()
    (image_folder / "annotations" / "boxes.xml").write_text("<boxes/>")
    (image_folder / "__MACOSX" / "train").mkdir(parents=True)
    shutil.copy(next((image_folder / "train").rglob("*.jpg")), image_folder / "__MACOSX" / "train" / "1.jpg")
    assert load(image_folder).preparation.classes == ("apples", "leaves", "skies")


def test_a_part_may_lack_classes_and_have_them_in_another_order(
    load: Load, make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder("train/a", 5, "train/b", 5, "train/c", 5, "val/b", 2, "test/c", 1, "test/a", 2)
    (root / "test" / "b").mkdir()
    data = load(root)
    assert data.validation.labels.tolist() == [1, 1]
    assert "val has no images of a; c" in capsys.readouterr().err
    assert load_part(str(root), "test", data.preparation, root=tmp_path / "data").labels.tolist() == [0, 0, 2]


def test_what_systems_leave_is_left_out_and_counted_in_one_line(
    load: Load, make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder("apples", 5, "leaves", 5, "apples/@eaDir", 3, "__MACOSX/apples", 2, "leaves/$RECYCLE.BIN", 1)
    picture("apples", 77).save(root / "loose.png")
    for name in ("._0.jpg", "Thumbs.db", "list.csv", "IMG.HEIC"):
        (root / "apples" / name).write_bytes(b"x")
    data = load(root)
    assert len(data.train) + len(data.validation) == 10
    [line] = capsys.readouterr().err.splitlines()
    for reason in ("system folders (3)", "hidden files and folders (1)", "images outside of class folders (1)"):
        assert reason in line
    assert "files that are not images (3: " in line
    assert ".heic" in line


# Links


def test_links_to_files_and_folders_are_followed(load: Load, make_folder: MakeFolder, tmp_path: Path) -> None:
    elsewhere = make_folder("apples", 6, "leaves", 6, root="elsewhere")
    root = make_folder("apples", 2, "leaves", 2)
    (root / "leaves" / "more").symlink_to(elsewhere / "leaves", target_is_directory=True)
    (root / "apples" / "one.jpg").symlink_to(elsewhere / "apples" / "000.jpg")
    (root / "skies").symlink_to(elsewhere / "apples", target_is_directory=True)
    listing = list_part(root, "train")
    assert listing is not None
    assert torch.bincount(torch.from_numpy(listing.labels)).tolist() == [3, 8, 6]
    assert len(find_images([str(root)])) == 17


def test_loops_end_and_are_noticed(make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_folder("apples", 3, "leaves/deep", 3)
    (root / "leaves" / "deep" / "again").symlink_to(root / "leaves", target_is_directory=True)
    (root / "apples" / "up").symlink_to(root, target_is_directory=True)
    (root / "apples" / "top").symlink_to("/", target_is_directory=True)
    listing = list_part(root, "train")
    assert listing is not None
    assert listing.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert "links to folders already read (3)" in capsys.readouterr().err


def test_a_broken_link_is_named_or_left_out(
    load: Load, make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder("apples", 5, "leaves", 5)
    (root / "apples" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "apples" / "folder").symlink_to(root / "nowhere")
    with pytest.raises(ValueError, match=r"gone\.jpg cannot be read: No such file .*--skip-bad"):
        load(root)
    data = load(root, skip_bad=True)
    assert len(data.train) + len(data.validation) == 10
    err = capsys.readouterr().err
    assert "what cannot be read (1: " in err
    assert "broken links (1)" in err


def test_a_folder_that_cannot_be_read_is_named_or_left_out(
    load: Load, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder("apples", 5, "leaves", 5, "leaves/locked", 2)
    scandir = os.scandir

    def refuse(path: Path) -> object:  # a test may run as root, who can read everything
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match="locked cannot be read: Permission denied.*--skip-bad"):
        load(root)
    with pytest.raises(ValueError, match="locked cannot be read: Permission denied.*--skip-bad"):
        find_images([str(root)])
    assert len(load(root, skip_bad=True).train) == 9
    assert "what cannot be read (1: " in capsys.readouterr().err
    assert len(find_images([str(root)], skip_bad=True)) == 10


def test_an_error_of_the_file_system_is_not_remembered(
    load: Load, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder("apples", 5, "leaves", 5)
    original = decoding.read_stored

    def fail(path: Path, layout: Layout) -> Stored:
        if path.name == "001.png":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return original(path, layout)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "read_stored", fail)
        with pytest.raises(ValueError, match=r"001\.png cannot be read: Input/output error"):
            load(root, validation=0)
        assert len(load(root, validation=0, skip_bad=True).train) == 8
    whole = load(root, validation=0)
    assert len(whole.train) == 10
    assert (pixels(whole.train).flatten(1).sum(1) > 0).all()
    assert same(whole, load(root, validation=0))


def test_errors_while_reading_are_told_apart_from_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    picture("apples", 1).save(path)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "_decode", fail)
    with pytest.raises(OSError, match="Input/output error") as error:
        files.read_image(path, 3)
    assert error.value.filename == str(path)


def test_relative_paths_are_walked_like_others(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder("apples/deep", 3, "leaves", 2)
    for place, name in (
        (root, "."),
        (root / "apples", ".."),
        (root.parent, root.name),
        (root / "leaves", "../apples/.."),
    ):
        monkeypatch.chdir(place)
        listing = list_part(Path(name), "train")
        assert listing is not None
        assert len(listing) == len(find_images([name])) == 5


# A run's own files


def test_a_run_folder_is_never_data(load: Load, make_folder: MakeFolder) -> None:
    root = make_folder("apples", 5, "leaves", 5)
    plain = load(root)
    for run in (root / "run", root / "runs" / "first", root / "apples" / "run"):
        (run / "checkpoints").mkdir(parents=True)
        (run / "config.json").write_text("{}")
        (run / "evaluation").mkdir()
        picture("apples", 99).save(run / "evaluation" / "confusion.png")
    assert same(plain, load(root))
    assert len(find_images([str(root)])) == 10
    assert part_folders(root) == {}


# Duplicates


def test_the_same_file_in_several_classes_or_parts_is_told(
    load: Load, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = next((image_folder / "train" / "apples").glob("*.png"))
    shutil.copy(first, image_folder / "train" / "leaves" / "copy.png")
    shutil.copy(first, image_folder / "val" / "apples" / "copy.png")
    shutil.copy(first, image_folder / "test" / "apples" / "copy.png")
    data = load(image_folder)
    across_classes, across_parts = capsys.readouterr().err.splitlines()
    assert "1 images are the same file of several classes" in across_classes
    assert "leaves/copy.png" in across_classes
    assert "1 images are the same file in training and in validation images" in across_parts
    load_part(
        str(image_folder),
        "test",
        data.preparation,
        trained_on=str(image_folder),
        storage="stream",
        root=tmp_path / "data",
    )
    err = capsys.readouterr().err
    assert "the same file in evaluation and in training images" in err
    assert "test/apples/copy.png" in err
