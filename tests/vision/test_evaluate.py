"""`vision.evaluate`: which images, which weights, what is printed and written, and bad input."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn import metrics as reference

from core.cli.exits import main
from core.files.json_files import read_json
from core.training.command import parse
from core.training.metrics import read_metrics
from tests.processes import Command, Outcome
from tests.vision.conftest import MakeFolder, picture
from tests.vision.processes import digits
from vision.config import TrainConfig
from vision.evaluate import evaluate
from vision.presets import PRESETS
from vision.train import train
from vision.trained import load

PICTURES = ["calibration.png", "confusion.png", "errors.png"]
METRICS = ["accuracy", "top5", "balanced_accuracy", "macro_f1", "loss", "ece", "accuracy_low", "accuracy_high"]


# The command

TINY = (
    *("vit-digits", "--model.core.dim", "16", "--model.core.depth", "1", "--model.core.n_heads", "2"),
    *("--batch-size", "16", "--precision", "fp32", "--device", "cpu"),
)


def train_run(out: Path, *words: object) -> Path:
    train(parse(TrainConfig, PRESETS, [*TINY, "--out", str(out), *map(str, words)]))
    return out


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `vision.evaluate` in this process: arguments -> what became of it."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main(lambda: evaluate([*map(str, arguments)]))
        out, err = capfd.readouterr()
        return Outcome(int(str(end.value.code)), out, err.splitlines())

    return run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits with averages of its weights, evaluated and saved at 20, 40 and 60."""
    out = tmp_path_factory.mktemp("evaluate") / "run"
    return train_run(out, "--steps", 60, "--eval-every", 20, "--save-every", 20, "--keep", 3, "--ema", 0.5)


@pytest.fixture(scope="module")
def plain(run_folder: Path) -> dict[str, Any]:
    """Figures of that run without any option."""
    out = run_folder.parent / "plain"
    evaluate([str(run_folder), "--device", "cpu", "--out", str(out)])
    figures = without_clock(read_json(out / "figures.json"))
    return {name: value for name, value in figures.items() if name not in ("class_names", "confusion", "errors")}


@pytest.fixture
def photos(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of photographs without parts, and a run on it."""
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path / "data"))
    folder = make_folder("apples", 14, "leaves", 11, "skies", 9)
    return folder, train_run(tmp_path / "run", "--data", folder, "--steps", 3, "--validation", 9)


def without_clock(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name != "seconds"}


def counts(figures: dict[str, Any]) -> dict[str, int]:
    """Images by class."""
    keys = [key.split("/") for key in figures]
    return {key[1]: figures["/".join(key)] for key in keys if key[0] == "classes" and key[-1] == "count"}


def figures_of(command: Command, *arguments: object) -> dict[str, Any]:
    code, out, err = command(*arguments, "--device", "cpu", "--json")
    assert (code, err) == (0, [])
    return without_clock(json.loads(out.splitlines()[-1]))


def test_the_command_reports_the_test_images(command: Command, run_folder: Path) -> None:
    code, out, err = command(run_folder, "--device", "cpu", "--json")
    figures = json.loads(out.splitlines()[-1])
    assert (code, err) == (0, [])
    place = run_folder / "evaluation"
    written = read_json(place / "figures.json")
    names, confusion, errors = (written.pop(name) for name in ("class_names", "confusion", "errors"))
    assert written == figures
    assert sorted(path.name for path in place.iterdir()) == sorted(["figures.json", "predictions.csv", *PICTURES])
    for name in PICTURES:
        with Image.open(place / name) as image:
            image.verify()
            assert image.format == "PNG"
    trained, images = load(run_folder), digits()
    answer = trained.logits(images.pixels).argmax(1)
    correct = int((answer == images.labels).sum())
    general = {"data": "digits", "split": "test", "images": 359, "step": trained.step, "weights": "averaged"}
    assert figures.items() >= (general | {"tta": "none", "test/accuracy": correct / 359}).items()
    low, high = figures["test/accuracy_low"], figures["test/accuracy_high"]
    assert low < correct / 359 < high
    assert names == list("0123456789")
    assert [int(error["truth"]) for error in errors] == [int(images.labels[int(error["image"])]) for error in errors]
    assert [int(error["answer"]) for error in errors] == [int(answer[int(error["image"])]) for error in errors]
    with (place / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["answer"]) for row in rows] == answer.tolist()
    assert [int(row["truth"]) for row in rows] == images.labels.tolist()
    assert confusion == reference.confusion_matrix(images.labels, answer).tolist()
    assert figures["classes/3/count"] == int((images.labels == 3).sum())
    assert figures["classes/3/recall"] == pytest.approx(confusion[3][3] / figures["classes/3/count"])
    assert out.startswith(f"digits: 359 images (test), checkpoint of step {trained.step}\n")
    [line] = [line for line in out.splitlines() if line.startswith("averaged weights ")]
    assert f" {100 * correct / 359:.2f} % " in line
    assert f" {100 * low:.2f} - {100 * high:.2f} % " in line
    assert "truth \\ answer" in out
    assert str(place) in out


def test_keys_are_flat(plain: dict[str, Any]) -> None:
    general = ["step", "data", "split", "images", "weights", "tta"]
    classes = [f"classes/{name}/{key}" for name in range(10) for key in ("precision", "recall", "f1", "count")]
    assert list(plain) == [*general, *(f"test/{name}" for name in METRICS), *classes]
    assert not any(isinstance(value, list | dict) for value in plain.values())


@pytest.mark.slow
def test_cifar10_is_evaluated_on_its_official_test_images(command: Command, data_root: Path, tmp_path: Path) -> None:
    shape = ("--model.image-size", 32, "--model.patch", 16, "--augment.crop", "none")
    run = train_run(tmp_path / "run", "--data", "cifar10", *shape, "--steps", 2, "--validation", 100)
    found = figures_of(command, run)
    assert (found["split"], found["images"]) == ("test", 10_000)
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    assert counts(found) == dict.fromkeys(names, 1000)


def test_validation_repeats_what_training_measured(command: Command, run_folder: Path) -> None:
    measured = {line["step"]: line for line in read_metrics(run_folder) if "val/accuracy" in line}
    best = max(measured, key=lambda step: (measured[step]["val/accuracy"], step))
    for which, step in (("best", best), (20, 20)):
        found = figures_of(command, run_folder, "--split", "validation", "--checkpoint", which)
        assert (found["step"], found["split"], found["images"]) == (step, "validation", 144)
        for name in ("accuracy", "top5", "loss", "ece"):
            assert found[f"validation/{name}"] == pytest.approx(measured[step][f"val/{name}"], abs=1e-6)


def test_the_command_repeats_itself_whatever_the_batch(
    command: Command, run_folder: Path, plain: dict[str, Any], tmp_path: Path
) -> None:
    assert figures_of(command, run_folder) == plain
    other = figures_of(command, run_folder, "--batch-size", 7, "--out", tmp_path / "elsewhere")
    assert other == pytest.approx(plain, abs=1e-6)
    assert (tmp_path / "elsewhere" / "figures.json").exists()


def test_averaged_and_raw_weights_are_reported_separately(
    command: Command, run_folder: Path, plain: dict[str, Any]
) -> None:
    raw, both = (figures_of(command, run_folder, "--weights", kind) for kind in ("raw", "both"))
    assert (plain["weights"], raw["weights"]) == ("averaged", "raw")
    assert plain["test/loss"] != raw["test/loss"]
    assert both == plain | {f"test/raw/{name}": raw[f"test/{name}"] for name in METRICS}


def test_test_time_augmentation_is_reported_separately(
    command: Command, run_folder: Path, plain: dict[str, Any]
) -> None:
    for views in ("flip", "shift"):
        found = figures_of(command, run_folder, "--tta", views)
        assert found.items() >= (plain | {"tta": views}).items()
        assert found.keys() - plain.keys() == {f"test/tta/{name}" for name in METRICS}
        assert found["test/tta/loss"] != plain["test/loss"]
    both = figures_of(command, run_folder, "--tta", "flip-shift", "--weights", "both")
    assert {"test/loss", "test/tta/loss", "test/raw/loss", "test/raw/tta/loss"} <= both.keys()


def test_without_averages_there_is_one_kind_of_weights(command: Command, tmp_path: Path) -> None:
    out = train_run(tmp_path / "run", "--steps", 2)
    assert figures_of(command, out)["weights"] == "raw"
    code, printed, err = command(out, "--weights", "both", "--json")
    assert code == 0
    [notice] = err
    assert "--ema 0" in notice
    assert "test/raw/loss" not in json.loads(printed.splitlines()[-1])


def test_without_test_images_a_folder_s_validation_images_are_taken(
    command: Command, photos: tuple[Path, Path]
) -> None:
    folder, run = photos
    code, out, [notice] = command(run)
    assert code == 0
    assert out.startswith(f"{folder}: 9 images (validation), ")
    assert f"{folder} has no test images" in notice
    assert "validation images" in notice
    assert figures_of(command, run, "--split", "validation")["images"] == 9
    code, _, [error] = command(run, "--split", "test")
    assert code == 2
    assert error.startswith(f"error: {folder} has no test images")


def test_of_another_folder_all_images_are_taken(command: Command, photos: tuple[Path, Path], make_folder: Any) -> None:
    other = make_folder("apples", 2, "leaves", 5, "skies", 4, root="others")
    _, run = photos
    code, out, [notice] = command(run, "--data", other, "--json")
    assert code == 0
    assert f"{other} has no test images" in notice
    found = json.loads(out.splitlines()[-1])
    assert (found["split"], found["images"]) == ("all", 11)
    assert counts(found) == {"apples": 2, "leaves": 5, "skies": 4}


def test_another_folder_may_hold_validation_images_alone_and_not_all_classes(
    command: Command, photos: tuple[Path, Path], make_folder: MakeFolder
) -> None:
    other = make_folder("val/leaves", 5, "val/skies", 4, root="others")
    code, out, [absent, notice] = command(photos[1], "--data", other, "--json")
    assert code == 0
    assert absent.endswith("val has no images of apples")
    assert notice.endswith("has no test images: these are its validation images")
    found = json.loads(out.splitlines()[-1])
    assert (found["split"], found["images"]) == ("validation", 9)
    assert counts(found) == {"apples": 0, "leaves": 5, "skies": 4}


def test_the_runs_own_images_elsewhere_are_noticed(
    command: Command, photos: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = photos
    found = figures_of(command, run, "--split", "validation")
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert figures_of(command, run, "--split", "validation", "--data", moved) == found | {"data": str(moved)}
    code, _, [same, notice] = command(run, "--data", moved)
    assert code == 0
    assert "34 images are the same file in evaluation and in training images" in same
    assert "--split validation" in notice
    monkeypatch.chdir(folder.parent)
    code, out, [notice] = command(run, "--data", folder.name)  # the same folder by another name
    assert code == 0
    assert out.startswith("photos: 9 images (validation)")


def test_a_folders_own_test_images_are_taken(command: Command, image_folder: Path, tmp_path: Path) -> None:
    run = train_run(tmp_path / "run", "--data", image_folder, "--steps", 2)
    found = figures_of(command, run)
    assert (found["split"], found["images"]) == ("test", 7)
    assert figures_of(command, run, "--split", "validation")["images"] == 7


def test_images_that_changed_since_are_noticed(command: Command, photos: tuple[Path, Path]) -> None:
    folder, run = photos
    picture("apples", 99).save(folder / "apples" / "extra.png")
    code, _, [notice] = command(run, "--split", "validation")
    assert code == 0
    assert f"{folder} no longer holds the images" in notice


def test_bad_images_are_named_or_left_out(
    command: Command, photos: tuple[Path, Path], make_folder: Any, spoil: Callable[[Path], dict[str, Path]]
) -> None:
    other = make_folder("apples", 2, "leaves", 5, "skies", 4, root="others")
    bad = spoil(other / "leaves")
    code, _, err = command(photos[1], "--data", other)
    assert (code, len(err)) == (2, 1)
    assert str(bad["cut"]) in err[0]
    code, out, err = command(photos[1], "--data", other, "--skip-bad")
    assert code == 0
    assert out.startswith(f"{other}: 11 images (all)")
    assert any("left out 3 of 14 images" in line for line in err)


def test_a_run_that_held_nothing_out_says_so(command: Command, tmp_path: Path, make_folder: MakeFolder) -> None:
    folder = make_folder("apples", 5, "leaves", 5)
    run = train_run(tmp_path / "run", "--data", folder, "--steps", 1, "--batch-size", 4, "--validation", 0)
    code, _, [error] = command(run)
    assert code == 2
    assert error.startswith(f"error: {folder} has no validation images")


BAD_INPUT = {
    "no folder": ((), "python -m vision.evaluate DIR"),
    "not a run": (("{place}/nothing",), "{place}/nothing is not a run folder"),
    "no such step": (("{run}", "--checkpoint", 7), "checkpoint = '7'"),
    "no such split": (("{run}", "--split", "train"), "'train'"),
    "no batch": (("{run}", "--batch-size", 0), "batch_size = 0 must be above 0"),
    "no such data": (("{run}", "--data", "{place}/nothing"), "there is no folder '{place}/nothing'"),
    "other classes": (
        ("{run}", "--data", "{place}/photos"),
        "photos has classes that the model does not have: apples; leaves",
    ),
    "other test classes": (
        ("{run}", "--data", "{place}/parts"),
        "test has classes that the model does not have: apples; leaves",
    ),
    "a file in place of a folder": (("{run}", "--out", "{place}/photos/apples/000.jpg"), "000.jpg"),
    "no device": (("{run}", "--device", "mps"), "device = 'mps' is not present"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_nothing_is_written(
    command: Command, run_folder: Path, make_folder: MakeFolder, tmp_path: Path, case: str
) -> None:
    if case == "no device" and torch.backends.mps.is_available():
        pytest.skip("it is present")
    make_folder("apples", 3, "leaves", 3)
    make_folder("train/apples", 3, "train/leaves", 3, "test/apples", 3, "test/leaves", 3, root="parts")
    shutil.rmtree(run_folder / "evaluation", ignore_errors=True)
    arguments, message = BAD_INPUT[case]
    code, _, err = command(*(str(word).format(run=run_folder, place=tmp_path) for word in arguments))
    assert code == 2
    assert len(err) == 1
    assert err[0].startswith("error: ")
    assert message.format(place=tmp_path) in err[0]
    assert not (run_folder / "evaluation").exists()
