"""`vision.evaluate`: every image once, whatever the batches and processes; views, figures, pictures, mistakes."""

from __future__ import annotations

import json
import math
import multiprocessing
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
from tests.processes import PRELOADED, Command, Outcome
from tests.vision.conftest import MakeFolder
from tests.vision.data.together import grey, numbered, opinionated, take_part
from vision.config import TrainConfig
from vision.data.batches import Images
from vision.data.load import load_data, load_test
from vision.evaluate import evaluate_run
from vision.presets import PRESETS
from vision.reports.metrics import Tally
from vision.reports.pictures import Mistakes
from vision.reports.report import Judged, Variant, as_json, draw, tables, variants
from vision.tasks.classification import evaluate
from vision.tasks.views import SHIFTS, joined, seen
from vision.train import train
from vision.trained import load

PICTURES = ["calibration.png", "confusion.png", "mistakes.png"]


def digits() -> Images:
    images = load_test("digits", grey())
    assert isinstance(images, Images)
    return images


# Every image once


def test_figures_are_those_of_a_plain_loop() -> None:
    vit, images = opinionated(), digits()
    with torch.no_grad():
        rows = [vit(grey()(image[None], 8))[0].double().softmax(0) for image in images.pixels]
    probabilities = torch.stack(rows).numpy()
    found = evaluate(vit, images, grey(), 100)
    assert list(found) == ["accuracy", "top5", "loss", "ece"]
    assert found["accuracy"] == reference.accuracy_score(images.labels, probabilities.argmax(1))
    assert found["top5"] == reference.top_k_accuracy_score(images.labels, probabilities, k=5)
    assert found["loss"] == pytest.approx(reference.log_loss(images.labels, probabilities), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 358, 359, 1000])
def test_figures_do_not_depend_on_the_batch(batch_size: int) -> None:
    vit, images = opinionated(), digits()
    found, expected = evaluate(vit, images, grey(), batch_size), evaluate(vit, images, grey(), 50)
    assert found == pytest.approx(expected, abs=1e-6)
    assert (found["accuracy"], found["top5"]) == (expected["accuracy"], expected["top5"])


@pytest.mark.parametrize(("world", "count", "batch_size"), [(2, 7, 2), (3, 8, 3), (3, 2, 4), (2, 9, 100)])
def test_processes_count_every_image_once(tmp_path: Path, world: int, count: int, batch_size: int) -> None:
    """Uneven parts, uneven last batches, and processes without any image."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    processes = [
        context.Process(target=take_part, args=(rank, world, count, batch_size, tmp_path)) for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0] * world
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(world)]
    assert all(other == found[0] for other in found)
    confusion = torch.tensor(found[0]["sums"][: count**2]).reshape(count, count)
    assert confusion.sum(1).tolist() == [1] * count
    vit, images, preparation = numbered(count)
    alone = evaluate(vit, images, preparation, count)
    assert found[0]["figures"] == pytest.approx(alone, abs=1e-6)
    assert all(found[0]["figures"][name] == alone[name] for name in ("accuracy", "top5"))


def test_no_images_is_one_sentence() -> None:
    vit, images, preparation = numbered(3)
    with pytest.raises(ValueError, match="there are no images to judge the model by"):
        evaluate(vit, Images(images.pixels[:0], images.labels[:0]), preparation, 5)


def test_images_from_files_as_they_come_are_those_in_memory(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder("apples", 9, "leaves", 6, "skies", 8)
    vit = opinionated(3, channels=3)
    held, streamed = (
        load_data(str(folder), size=8, validation=10, storage=storage, root=tmp_path)
        for storage in ("memory", "stream")
    )
    expected = evaluate(vit, held.validation, held.preparation, 4)
    assert evaluate(vit, streamed.validation, streamed.preparation, 4) == expected
    assert 0 < expected["loss"] < 100


# Test-time augmentation


def test_views_are_the_image_first_then_its_shifts_and_mirror_images() -> None:
    images = torch.rand(3, 2, 6, 6)
    assert [len(list(seen(images, views))) for views in ("none", "flip", "shift", "flip-shift")] == [1, 2, 5, 10]
    for views in ("none", "flip", "shift", "flip-shift"):
        assert next(iter(seen(images, views))).equal(images)
    for (down, right), moved, mirrored in zip(
        SHIFTS, list(seen(images, "flip-shift"))[::2], list(seen(images, "flip-shift"))[1::2], strict=True
    ):
        assert moved.shape == images.shape
        for row in range(6):
            for column in range(6):
                source = [abs(5 - abs(5 - place)) for place in (row - down, column - right)]  # reflected at the edges
                assert moved[..., row, column].equal(images[..., source[0], source[1]])
        assert mirrored.equal(moved.flip(-1))


def test_views_are_joined_by_the_mean_of_probabilities() -> None:
    views = [3 * torch.randn(8, 5) for _ in range(4)]
    expected = torch.stack([view.softmax(1) for view in views]).mean(0)
    torch.testing.assert_close(joined(views).exp(), expected)
    torch.testing.assert_close(joined(views[:1]), views[0].log_softmax(1))
    torch.testing.assert_close(joined([100 * view for view in views]).exp().sum(1), torch.ones(8))


def test_mirroring_symmetric_images_changes_nothing() -> None:
    vit, images = opinionated(), digits()
    half = grey()(images.pixels, 8)[..., :4]
    symmetric = torch.cat((half, half.flip(-1)), -1)
    with torch.no_grad():
        logits = [vit(view) for view in seen(symmetric, "flip")]
        crooked = [vit(view) for view in seen(grey()(images.pixels, 8), "flip")]
    plain, both = Tally.of(logits[0], images.labels), Tally.of(joined(logits), images.labels)
    assert both.figures() == pytest.approx(plain.figures(), abs=1e-6)
    assert both.confusion.equal(plain.confusion)
    assert not Tally.of(joined(crooked), images.labels).confusion.equal(Tally.of(crooked[0], images.labels).confusion)


# The command

TINY = (
    *("vit-digits", "--model.core.dim", "16", "--model.core.depth", "1", "--model.core.n_heads", "2"),
    *("--batch-size", "16", "--precision", "fp32", "--device", "cpu"),
)


def learnt(out: Path, *words: object) -> Path:
    train(parse(TrainConfig, PRESETS, [*TINY, "--out", str(out), *map(str, words)]))
    return out


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `vision.evaluate` in this process: arguments -> what became of it."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main(lambda: evaluate_run([*map(str, arguments)]))
        out, err = capfd.readouterr()
        return Outcome(int(str(end.value.code)), out, err.splitlines())

    return run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits with averages of its weights, evaluated and saved at 20, 40 and 60."""
    out = tmp_path_factory.mktemp("evaluate") / "run"
    return learnt(out, "--steps", 60, "--eval-every", 20, "--save-every", 20, "--keep", 3, "--ema", 0.5)


@pytest.fixture(scope="module")
def plain(run_folder: Path) -> dict[str, Any]:
    """Figures of that run without any option."""
    out = run_folder.parent / "plain"
    evaluate_run([str(run_folder), "--device", "cpu", "--out", str(out)])
    return without_clock(read_json(out / "figures.json"))


@pytest.fixture
def photos(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of photographs without parts, and a run on it."""
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path / "data"))
    folder = make_folder("apples", 14, "leaves", 11, "skies", 9)
    return folder, learnt(tmp_path / "run", "--data", folder, "--steps", 3, "--validation", 9)


def without_clock(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name != "seconds"}


def figures_of(command: Command, *arguments: object) -> dict[str, Any]:
    code, out, err = command(*arguments, "--device", "cpu", "--json")
    assert (code, err) == (0, [])
    return without_clock(json.loads(out.splitlines()[-1]))


def test_the_command_tells_everything_of_the_test_images(command: Command, run_folder: Path) -> None:
    code, out, err = command(run_folder, "--device", "cpu", "--json")
    found = json.loads(out.splitlines()[-1])
    assert (code, err) == (0, [])
    place = run_folder / "evaluation"
    assert read_json(place / "figures.json") == found
    assert sorted(path.name for path in place.iterdir()) == [*PICTURES[:2], "figures.json", PICTURES[2]]
    for name in PICTURES:
        with Image.open(place / name) as image:
            image.verify()
            assert image.format == "PNG"
    trained, images = load(run_folder), digits()
    answer = trained.logits(images.pixels).argmax(1)
    right = int((answer == images.labels).sum())
    assert (found["data"], found["split"], found["images"], found["step"]) == ("digits", "test", 359, trained.step)
    assert found["accuracy"] == right / 359
    low, high = found["accuracy_interval"]
    assert low < found["accuracy"] < high
    assert found["confusion"] == reference.confusion_matrix(images.labels, answer).tolist()
    assert list(found["classes"]) == list("0123456789")
    assert found["classes"]["3"]["count"] == int((images.labels == 3).sum())
    assert found["classes"]["3"]["recall"] == found["confusion"][3][3] / found["classes"]["3"]["count"]
    assert out.startswith(f"digits: 359 images (test), checkpoint of step {trained.step}\n")
    [line] = [line for line in out.splitlines() if line.startswith("averaged weights ")]
    assert f" {100 * right / 359:.2f} % " in line
    assert f" {100 * low:.2f} - {100 * high:.2f} % " in line
    assert "truth \\ answer" in out
    assert f"pictures and figures are in {place}" in out


def test_cifar10_is_judged_by_its_official_test_images(command: Command, data_root: Path, tmp_path: Path) -> None:
    shape = ("--model.image-size", 32, "--model.patch", 16, "--augment.crop", "none")
    run = learnt(tmp_path / "run", "--data", "cifar10", *shape, "--steps", 2, "--validation", 100)
    found = figures_of(command, run)
    assert (found["split"], found["images"]) == ("test", 10_000)
    assert [row["count"] for row in found["classes"].values()] == [1000] * 10
    assert list(found["classes"]) == "airplane automobile bird cat deer dog frog horse ship truck".split()


def test_validation_repeats_what_training_measured(command: Command, run_folder: Path) -> None:
    measured = {line["step"]: line for line in read_metrics(run_folder) if "val/accuracy" in line}
    best = max(measured, key=lambda step: (measured[step]["val/accuracy"], step))
    for which, step in (("best", best), (20, 20)):
        found = figures_of(command, run_folder, "--split", "validation", "--checkpoint", which)
        assert (found["step"], found["split"], found["images"]) == (step, "validation", 144)
        for name in ("accuracy", "top5", "loss", "ece"):
            assert found[name] == pytest.approx(measured[step][f"val/{name}"], abs=1e-6)


def test_the_command_repeats_itself_whatever_the_batch(
    command: Command, run_folder: Path, plain: dict[str, Any], tmp_path: Path
) -> None:
    assert figures_of(command, run_folder) == plain
    other = figures_of(command, run_folder, "--batch-size", 7, "--out", tmp_path / "elsewhere")
    assert other["confusion"] == plain["confusion"]
    assert other["loss"] == pytest.approx(plain["loss"], abs=1e-6)
    assert (tmp_path / "elsewhere" / "figures.json").exists()


def test_averaged_and_raw_weights_are_told_apart(command: Command, run_folder: Path, plain: dict[str, Any]) -> None:
    raw, both = (figures_of(command, run_folder, "--weights", kind) for kind in ("raw", "both"))
    assert (plain["weights"], raw["weights"]) == ("averaged", "raw")
    assert plain["loss"] != raw["loss"]
    assert both == plain | {
        f"{name}_raw": raw[name] for name in ("accuracy", "top5", "loss", "ece", "accuracy_interval")
    }


def test_test_time_augmentation_is_reported_apart(command: Command, run_folder: Path, plain: dict[str, Any]) -> None:
    for views in ("flip", "shift"):
        found = figures_of(command, run_folder, "--tta", views)
        assert found.items() >= (plain | {"tta": views}).items()
        assert found.keys() - plain.keys() == {
            f"{name}_tta" for name in ("accuracy", "top5", "loss", "ece", "accuracy_interval")
        }
        assert found["loss_tta"] != plain["loss"]
    both = figures_of(command, run_folder, "--tta", "flip-shift", "--weights", "both")
    assert {"loss", "loss_tta", "loss_raw", "loss_raw_tta"} <= both.keys()


def test_without_averages_there_is_one_kind_of_weights(command: Command, tmp_path: Path) -> None:
    out = learnt(tmp_path / "run", "--steps", 2)
    assert figures_of(command, out)["weights"] == "raw"
    code, printed, err = command(out, "--weights", "both", "--json")
    assert code == 0
    assert err == [f"notice: {out} kept no averages of its weights (--ema 0): there are the raw ones only"]
    assert "loss_raw" not in json.loads(printed.splitlines()[-1])


def test_a_folder_without_test_images_is_judged_by_its_validation_images(
    command: Command, photos: tuple[Path, Path]
) -> None:
    folder, run = photos
    code, out, [notice] = command(run)
    assert code == 0
    assert out.startswith(f"{folder}: 9 images (validation), ")
    assert notice.startswith(f"notice: {folder} has no test images: these are the validation images")
    assert figures_of(command, run, "--split", "validation")["images"] == 9
    code, _, [error] = command(run, "--split", "test")
    assert code == 2
    assert error.startswith(f"error: {folder} has no test images")


def test_another_folder_is_judged_as_a_whole(command: Command, photos: tuple[Path, Path], make_folder: Any) -> None:
    other = make_folder("apples", 2, "leaves", 5, "skies", 4, root="others")
    _, run = photos
    code, out, [notice] = command(run, "--data", other, "--json")
    assert code == 0
    assert notice.startswith(f"notice: {other} has no test images: these are all of its images")
    found = json.loads(out.splitlines()[-1])
    assert (found["split"], found["images"]) == ("all", 11)
    assert [row["count"] for row in found["classes"].values()] == [2, 5, 4]


def test_the_runs_own_images_elsewhere_are_never_judged_unawares(
    command: Command, photos: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = photos
    found = figures_of(command, run, "--split", "validation")
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert figures_of(command, run, "--split", "validation", "--data", moved) == found | {"data": str(moved)}
    code, _, [notice] = command(run, "--data", moved)
    assert code == 0
    assert notice.endswith("a fair test if the model learnt from none of them (else: --split validation)")
    monkeypatch.chdir(folder.parent)
    code, out, [notice] = command(run, "--data", folder.name)  # the same folder by another name
    assert code == 0
    assert out.startswith("photos: 9 images (validation)")


def test_a_folder_with_test_images_is_judged_by_them(command: Command, image_folder: Path, tmp_path: Path) -> None:
    run = learnt(tmp_path / "run", "--data", image_folder, "--steps", 2)
    found = figures_of(command, run)
    assert (found["split"], found["images"]) == ("test", 7)
    assert figures_of(command, run, "--split", "validation")["images"] == 7


def test_images_that_changed_since_are_noticed(command: Command, photos: tuple[Path, Path]) -> None:
    folder, run = photos
    (folder / "apples" / "extra.png").write_bytes(next(folder.glob("leaves/*.png")).read_bytes())
    code, _, [notice] = command(run, "--split", "validation")
    assert code == 0
    assert notice == f"notice: {folder} does not hold the images any more that the run was trained on"


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
    run = learnt(tmp_path / "run", "--data", folder, "--steps", 1, "--batch-size", 4, "--validation", 0)
    code, _, [error] = command(run)
    assert code == 2
    assert error == f"error: {folder} has no validation images: the run learnt from all of them (--validation 0)"


MISTAKES = {
    "no folder": ((), "name the run folder first: python -m vision.evaluate DIR [options]"),
    "not a run": (("{place}/nothing",), "{place}/nothing is not a run folder: it has no config.json"),
    "no such step": (("{run}", "--checkpoint", 7), "checkpoint = '7' is not one of: last, best, last-good, "),
    "no such split": (("{run}", "--split", "train"), "--split: invalid choice: 'train'"),
    "no batch": (("{run}", "--batch-size", 0), "batch_size = 0 must be above 0"),
    "no such data": (("{run}", "--data", "{place}/nothing"), "there is no folder '{place}/nothing'"),
    "other classes": (("{run}", "--data", "{place}/photos"), "photos has other classes than the model: 0; 1; 2; "),
    "other test classes": (("{run}", "--data", "{place}/parts"), "has other classes than the model: 0; 1; 2; "),
    "a file in place of a folder": (("{run}", "--out", "{place}/photos/apples/000.jpg"), "000.jpg"),
    "no device": (("{run}", "--device", "mps"), "device = 'mps' is not present"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(
    command: Command, run_folder: Path, make_folder: MakeFolder, tmp_path: Path, case: str
) -> None:
    if case == "no device" and torch.backends.mps.is_available():
        pytest.skip("it is present")
    make_folder("apples", 3, "leaves", 3)
    make_folder("train/apples", 3, "train/leaves", 3, "test/apples", 3, "test/leaves", 3, root="parts")
    shutil.rmtree(run_folder / "evaluation", ignore_errors=True)
    arguments, message = MISTAKES[case]
    code, _, err = command(*(str(word).format(run=run_folder, place=tmp_path) for word in arguments))
    assert code == 2
    assert len(err) == 1
    assert err[0].startswith("error: ")
    assert message.format(place=tmp_path) in err[0]
    assert not (run_folder / "evaluation").exists()


# What is reported


def test_only_so_many_classes_are_listed() -> None:
    labels = torch.arange(300) % 150
    tally = Tally.of(torch.nn.functional.one_hot((labels + (labels < 5)) % 150, 150).float(), labels)
    names = [f"class {index}" for index in range(150)]
    summary, by_class = tables([Variant("raw weights", "", tally)], names)
    assert "96.67 %" in summary
    assert by_class.splitlines()[0].startswith("20 hardest classes")
    listed = [line.split("   ")[0] for line in by_class.splitlines()[1:]]
    assert listed[:6] == [f"class {index}" for index in range(6)]
    assert len(listed) == 20


def test_a_model_that_diverged_is_reported_as_what_it_is(tmp_path: Path) -> None:
    labels, logits = torch.arange(20) % 4, torch.full((20, 4), math.nan)
    pixels = torch.zeros(20, 1, 8, 8, dtype=torch.uint8)
    judged = Judged(Tally.of(logits, labels), None, Mistakes.of(pixels, logits, labels))
    found = list(variants({"raw": judged}, "none"))
    figures = as_json(found, "abcd")
    json.dumps(figures, allow_nan=False)
    assert (figures["loss"], figures["ece"], figures["accuracy"]) == (None, None, 0.25)
    assert figures["classes"]["b"] == {"precision": None, "recall": 0.0, "f1": 0.0, "count": 5}
    assert "nan" in tables(found, "abcd")[0]
    draw(judged, "abcd", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == PICTURES
