"""Training by the public commands: what it reaches, what it does not touch, and that it survives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.training.command import parse
from tests.processes import Commands, lines
from tests.vision.conftest import picture
from tests.vision.runs import GREY, write_run
from vision.config import TrainConfig
from vision.data.batches import Images
from vision.data.load import load_data, load_test
from vision.presets import PRESETS
from vision.tasks.classification import evaluate
from vision.train import train
from vision.trained import load

ROOT = Path(__file__).parents[2]
TINY = (
    *("vit-cifar-cpu", "--model.core.dim", 32, "--model.core.depth", 2, "--model.core.n_heads", 2, "--batch-size", 16),
    *("--precision", "fp32", "--device", "cpu", "--optimizer.muon-precision", "fp32", "--log-every", 1),
)
"""`vision.train` on a model of 25 thousand parameters; a step takes some milliseconds."""
DIGITS = ("--data", "digits", "--model.image-size", 8, "--model.patch", 2)
"""Everything that draws random numbers."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vision")


@pytest.fixture(scope="module")
def commands(place: Path) -> Commands:
    return Commands(place)


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch: pytest.MonkeyPatch, place: Path, request: pytest.FixtureRequest) -> None:
    if "data_root" not in request.fixturenames:
        monkeypatch.setenv("TRIPTYCH_DATA", str(place / "data"))


def trained(commands: Commands, *arguments: object) -> None:
    life = commands.run("vision.train", *arguments)
    assert life.process.exitcode == 0, life.err


def accuracy(folder: Path, data: str) -> float:
    """On the official test images, with the last checkpoint."""
    run = load(folder, "last")
    return evaluate(run.model, load_test(data, run.preparation), run.preparation, 500)["accuracy"]


# What it reaches


@pytest.mark.slow
def test_digits_are_learned(commands: Commands, place: Path) -> None:
    out = place / "digits"
    life = commands.begin("vision.train", "vit-digits", "--validation", 0, "--out", out)
    assert life.end(300) == 0, life.err
    assert accuracy(out, "digits") > 0.95  # 0.974 +- 0.006 over seeds 0-4; the best linear classifier has 0.936


def linear_classifier(train: Images, test: Images) -> float:
    """Test accuracy of the best linear map of the pixels, in the least-squares sense, from all training images."""

    def inputs(images: Images) -> Tensor:
        pixels = images.pixels.flatten(1).double() / 255
        return torch.cat((pixels, torch.ones(len(pixels), 1, dtype=torch.float64)), 1)

    x, y = inputs(train), torch.nn.functional.one_hot(train.labels).double()
    weights = torch.linalg.solve(x.T @ x + 10.0 * torch.eye(x.shape[1], dtype=torch.float64), x.T @ y)
    return float((inputs(test) @ weights).argmax(1).eq(test.labels).double().mean())


@pytest.mark.slow
def test_half_a_minute_on_cifar10_beats_a_linear_classifier_by_far(
    commands: Commands, place: Path, data_root: Path
) -> None:
    """Half a minute's steps on one core: 0.517 +- 0.005 over seeds 0-3; a linear map of the pixels reaches 0.39."""
    out = place / "cifar"
    shape = ("--model.core.dim", 96, "--model.core.depth", 4, "--model.core.n_heads", 3)
    words = ("vit-cifar-cpu", *shape, "--steps", 200, "--batch-size", 128, "--eval-every", 200, "--out", out)
    life = commands.begin("vision.train", *words)
    assert life.end(400) == 0, life.err
    data = load_data("cifar10", size=32)
    assert isinstance(data.train, Images)
    test = load_test("cifar10", data.preparation)
    assert isinstance(test, Images)
    assert accuracy(out, "cifar10") > linear_classifier(data.train, test) + 0.08


# What it does not touch

SPY = """
import runpy, sys
opened = []
sys.addaudithook(lambda event, details: opened.append(str(details[0])) if event == "open" else None)
sys.argv = ["vision.train", *sys.argv[1:]]
try:
    runpy.run_module("vision.train", run_name="__main__")
finally:
    names = [name.rpartition("/")[2] for name in opened]
    assert "data_batch_3" in names, "the spy sees what is opened"
    print("test_batch opened" if "test_batch" in names else "test_batch left alone")
"""


def test_training_never_opens_the_test_images(place: Path, data_root: Path) -> None:
    small = ("--model.core.dim", "32", "--model.core.depth", "1", "--model.core.n_heads", "2")
    words = ("vit-cifar-cpu", *small, "--steps", "2", "--batch-size", "8", "--eval-batch", "1000")
    command = [sys.executable, "-c", SPY, *words, "--out", str(place / "spied")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "test_batch left alone"


# Where it starts from


def test_fine_tuning_goes_on_from_a_run_at_another_size_with_other_classes(
    commands: Commands, place: Path, make_folder: Callable[..., Path]
) -> None:
    first, second = make_folder("a", 9, "b", 9), make_folder("c", 9, "d", 9, "e", 9, root="others")
    small = (*TINY, "--model.image-size", 16, "--model.patch", 4, "--steps", 3)
    trained(commands, *small, "--data", first, "--out", place / "first")
    tuned = ("vit-cifar-cpu", "--init-from", place / "first", "--data", second, "--model.image-size", 24)
    tuned += ("--model.patch", 4, "--optimizer.kind", "adamw", "--optimizer.layer-decay", 0.7)
    trained(commands, *tuned, "--steps", 2, "--batch-size", 8, "--out", place / "tuned")
    run = load(place / "tuned", "last")
    assert run.preparation.classes == ("c", "d", "e")
    assert run.model.config.image_size == 24
    assert run.model.config.core.dim == 32
    before = load(place / "first", "last").model.state_dict()
    moved = {name for name, tensor in run.model.state_dict().items() if tensor.shape != before[name].shape}
    assert moved == {"head.weight", "head.bias"}


def test_all_images_may_be_trained_on(commands: Commands, place: Path) -> None:
    trained(commands, *TINY, *DIGITS, "--validation", 0, "--steps", 3, "--out", place / "all")
    assert not any("val/loss" in line for line in lines(place / "all"))
    assert json.loads((place / "all" / "data.json").read_text())["train"] == 1797 - 359
    assert 0 < accuracy(place / "all", "digits") < 1


# Bad input

BAD = {
    "a patch that does not divide": (("--model.patch", 3), "patch = 3 must divide image_size = 8"),
    "an unknown set": (("--data", "cifar11"), "did you mean 'cifar10'?"),
    "a setting without effect": (("--augment.erase-size", 4), "--augment.erase-size has no effect"),
    "too many held out": (("--validation", 5000), "validation = 5000"),
    "a shape that is brought": (("--init-from", "x", "--model.pool", "class"), "init_from brings its own"),
    "nothing to start from": (("--init-from", "nowhere"), "nowhere"),
    "an odd number to mix": (("--augment.mixup", 1.0, "--batch-size", 15), "15 images"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(commands: Commands, place: Path, case: str) -> None:
    words, complaint = BAD[case]
    out = place / "never"
    life = commands.run("vision.train", "vit-digits", *words, "--out", out)
    assert life.process.exitcode == 2
    [line] = life.err
    assert complaint in line
    assert not out.exists()


def test_images_may_move_and_held_out_ones_that_changed_are_told(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: object) -> str:
        capsys.readouterr()
        train(parse(TrainConfig, PRESETS, [*map(str, words)]))
        return capsys.readouterr().err

    shape = ("--model.image-size", 16, "--model.patch", 8, "--augment.crop", "none", "--augment.flip", "none")
    introduction = run(*TINY, *shape, "--data", image_folder, "--steps", 1, "--out", tmp_path / "run")
    assert "3 classes: apples, leaves, skies" in introduction
    moved = image_folder.rename(tmp_path / "moved")
    resume = ("--out", tmp_path / "run", "--resume", "--data", moved, "--steps")
    assert "validation images" not in run(*resume, 2)
    picture("apples", 99).save(moved / "val" / "apples" / "new.png")
    assert f"the validation images of --data {moved} have changed" in run(*resume, 3)
    picture("apples", 99).save(moved / "train" / "apples" / "new.png")
    with pytest.raises(ValueError, match="was trained on other images"):
        run(*resume, 4)


def fine_tune(base: Path, out: Path, *words: object) -> TrainConfig:
    """Trains two steps on digits from an untrained run; returns the configuration of the new one."""
    shape = ("--device", "cpu", "--precision", "fp32", "--batch-size", 16, "--steps", 2, "--out", out)
    train(parse(TrainConfig, PRESETS, [*map(str, ("vit-digits", "--init-from", base, *shape, *words))]))
    return load(out).config


def test_the_head_alone_is_trained_where_that_is_asked_for(tmp_path: Path) -> None:
    base = write_run(tmp_path / "base", replace(GREY, core=replace(GREY.core, drop_path=0.5)))
    words = ("--train", "head", "--class-weights", "balanced", "--optimizer.kind", "muon")
    config = fine_tune(base, tmp_path / "probe", *words)
    before, after = load(base).model.state_dict(), load(tmp_path / "probe").model.state_dict()
    assert {name for name in after if not after[name].equal(before[name])} == {"head.weight", "head.bias"}
    assert config.model.core.drop_path == 0


def test_what_is_dropped_out_is_not_a_matter_of_the_weights(tmp_path: Path) -> None:
    base = write_run(tmp_path / "base", GREY)
    config = fine_tune(base, tmp_path / "run", "--model.core.dropout", 0.25, "--model.core.drop-path", 0.125)
    assert (config.model.core.dropout, config.model.core.drop_path) == (0.25, 0.125)
    assert config.model == replace(GREY, core=replace(GREY.core, dropout=0.25, drop_path=0.125))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--train", "head"), "train = 'head' needs init_from"),
        (("--init-from", "x", "--train", "head", "--optimizer.layer-decay", "0.5"), "layer-decay has no effect"),
        (("--init-from", "x", "--train", "head", "--model.core.dropout", "0.5"), "dropout has no effect"),
        (("--init-from", "x", "--model.core.dim", "64"), "--model.core.dim has no effect: init_from brings its own"),
    ],
)
def test_settings_without_effect_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(TrainConfig, PRESETS, ["vit-digits", *words])
