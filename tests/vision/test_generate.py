"""`vision.generate`, and `vision.evaluate` of a model that draws: what they write, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.config import PositionConfig, TransformerConfig
from core.training.command import parse
from tests.panels.subjects import captioned
from tests.vision.runs import GREY, call, write_run
from vision.evaluate import evaluate
from vision.generate import generate
from vision.models.contrastive import ContrastiveConfig
from vision.models.dit import DiTConfig
from vision.models.image_gpt import ImageGPTConfig
from vision.presets import PRESETS
from vision.tasks.configs import CONFIGS
from vision.tasks.contrastive_config import ContrastiveRunConfig
from vision.tasks.drawing.flow_config import FlowConfig
from vision.tasks.drawing.pixels_config import PixelsConfig
from vision.tasks.loop import train

CORE = TransformerConfig(dim=16, depth=2, n_heads=2, modulation="adaln", position=PositionConfig("learned"))
SETTINGS = {"precision": "fp32", "device": "cpu", "log_every": 10}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that draws digits, badly."""
    out = tmp_path_factory.mktemp("drawing") / "run"
    shape = DiTConfig(image_size=8, patch=4, core=CORE)
    train(FlowConfig(steps=12, batch_size=32, ema=0.5, sample=20, out=out, model=shape, **SETTINGS))
    return out


FEW = ("--steps", 2, "--device", "cpu")


def test_training_leaves_a_sheet_of_samples(run: Path) -> None:
    sheet = Image.open(run / "samples" / "step-00000012.png")
    assert sheet.size == (10 * 82 + 2, 2 * 82 + 2)


def test_a_sheet_a_film_and_images_by_themselves(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, film, images = tmp_path / "sheet.png", tmp_path / "film.gif", tmp_path / "images"
    words = ("--class", 7, 3, "--number", 6, "--guidance", 2, *FEW, "--film", film, "--images", images)
    done = call(capfd, generate, run, "--out", out, *words)
    assert done.code == 0, done.err
    assert "6 images" in done.out
    assert "seconds each" in done.out
    assert Image.open(out).size == (2 * 82 + 2, 3 * (80 + 14 + 2) + 2)  # a caption of one line below each
    assert Image.open(film).n_frames == 3
    assert sorted(str(file.relative_to(images)) for file in images.rglob("*.png")) == [
        *(f"3/00000{n}.png" for n in (1, 3, 5)), *(f"7/00000{n}.png" for n in (0, 2, 4))
    ]  # fmt: skip
    assert np.asarray(Image.open(images / "7" / "000000.png")).shape == (8, 8)
    again = tmp_path / "again.png"
    assert call(capfd, generate, run, "--out", again, *words[:-4]).code == 0
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "out is missing"),
        (("--out", "sheet.jpg"), "must be a file that ends in .png"),
        (("--out", "a.png", "--class", "12"), "class '12' is not one that the model draws"),
        (("--out", "a.png", "--number", "0"), "number = 0"),
        (("--out", "a.png", "--guidance", "-1"), "guidance = -1"),
        (("--out", "a.png", "--film", "a.gif", "--number", "101"), "more than the 100 images"),
    ],
)
def test_bad_input_is_one_line(
    run: Path, words: tuple[str, ...], complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    done = call(capfd, generate, run, *words)
    assert done.code == 2
    [line] = done.err
    assert complaint in line


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that draws digits pixel by pixel, badly."""
    out = tmp_path_factory.mktemp("tokens") / "run"
    core = TransformerConfig(dim=16, depth=1, n_heads=2, position=PositionConfig("learned"))
    shape = ImageGPTConfig(image_size=8, patch=2, codes=20, core=core)
    train(PixelsConfig(steps=4, batch_size=32, sample=20, out=out, model=shape, **SETTINGS))
    return out


def test_digits_are_drawn_and_completed_token_by_token(
    pixels: Path, judge: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert Image.open(pixels / "samples" / "step-00000004.png").size == (10 * 82 + 2, 2 * 82 + 2)
    photo, out, film = tmp_path / "photo.png", tmp_path / "sheet.png", tmp_path / "film.gif"
    Image.fromarray(np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)).save(photo)
    words = ("--number", 5, "--columns", 6, "--top-k", 3, "--device", "cpu")
    done = call(capfd, generate, pixels, "--complete", photo, *words, "--out", out, "--film", film)
    assert done.code == 0, done.err
    assert Image.open(film).n_frames == 3
    first, *drawn = np.asarray(Image.open(out).convert("L"))[2:82, 2:].reshape(80, 6, 82)[:, :, :80].swapaxes(0, 1)
    assert all((image[:40] == first[:40]).all() for image in drawn)
    assert any((image[40:] != first[40:]).any() for image in drawn)
    done = call(capfd, generate, pixels, *words, "--class", 7, "--out", out)
    assert done.code == 0, done.err
    words = ("--judge", judge, "--samples", 20, "--device", "cpu", "--out", tmp_path / "found", "--json")
    done = call(capfd, evaluate, pixels, *words)
    assert done.code == 0, done.err
    figures = json.loads(done.out.splitlines()[-1])
    assert figures["test/bits_per_dim"] == pytest.approx(figures["test/loss"] / 4 / np.log(2))
    assert 0 < figures["test/coding_error"] < 0.2
    assert 0 <= figures["samples/recognised"] <= 1


@pytest.mark.parametrize(
    ("drawn_by", "words", "complaint"),
    [
        ("run", ("--complete", "photo.png"), "complete is for models that draw token by token"),
        ("run", ("--prompt", "red bar"), "prompt is for models of captions"),
        ("run", ("--top-k", "3"), "top_k = 3 has no effect on the task 'flow'"),
        ("pixels", ("--guidance", "2"), "guidance = 2.0 has no effect on the task 'pixels'"),
        ("pixels", ("--complete", "nowhere.png"), "nowhere.png"),
        ("captions", ("--class", "red bar"), "class 'red bar' is for models of classes"),
        ("captions", (), "prompt is missing"),
        ("captions", ("--prompt", "red baar"), "did you mean 'bar'?"),
    ],
)
def test_what_a_model_cannot_draw_is_one_line(
    drawn_by: str, words: tuple[str, ...], complaint: str, request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    done = call(capfd, generate, request.getfixturevalue(drawn_by), "--out", "a.png", *words)
    assert (done.code, len(done.err)) == (2, 1), done.err
    assert complaint in done.err[0]


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that draws squares and bars by their captions, badly."""
    folder = tmp_path_factory.mktemp("captions")
    shape = DiTConfig(image_size=8, patch=4, told="caption", core=CORE)
    data = str(captioned(folder))
    train(FlowConfig(steps=4, batch_size=16, sample=4, data=data, out=folder / "run", model=shape, **SETTINGS))
    return folder / "run"


def test_captions_are_drawn_and_found_by_a_judge(
    captions: Path, judge: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = call(capfd, generate, captions, "--prompt", "red bar", "BLUE square", *FEW, "--out", tmp_path / "a.png")
    assert done.code == 0, done.err
    core = TransformerConfig(dim=16, depth=1, n_heads=2, position=PositionConfig("learned"))
    shape = ContrastiveConfig(image_size=8, patch=4, core=core)
    data = str(captions.parent / "captioned")
    run = tmp_path / "judge"
    train(ContrastiveRunConfig(steps=2, batch_size=16, group=16, data=data, out=run, model=shape, **SETTINGS))
    done = call(capfd, evaluate, run, "--device", "cpu", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["validation/chance"] == 1
    words = ("--judge", run, "--split", "validation", *FEW, "--out", tmp_path / "found", "--json")
    done = call(capfd, evaluate, captions, *words)
    assert done.code == 0, done.err
    figures = json.loads(done.out.splitlines()[-1])
    assert 0 <= figures["samples/retrieved"] <= figures["samples/retrieved_top5"] <= 1
    done = call(capfd, evaluate, captions, "--judge", judge, *FEW)
    assert (done.code, "here one for 'contrastive' is needed" in done.err[-1]) == (2, True)


def test_a_classifier_does_not_draw(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = call(capfd, generate, write_run(tmp_path / "vit", GREY), "--out", tmp_path / "a.png")
    assert (done.code, len(done.err)) == (2, 1)
    assert "not one that draws images" in done.err[0]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of digits, hardly trained."""
    out = tmp_path_factory.mktemp("judging") / "run"
    words = ["vit-digits", "--steps", "3", "--batch-size", "16", "--model.core.depth", "1", "--model.core.dim", "16"]
    words += ["--precision", "fp32", "--device", "cpu", "--validation", "0", "--out", str(out)]
    train(parse(CONFIGS, PRESETS, words))
    return out


def test_images_drawn_are_judged(run: Path, judge: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("--judge", judge, "--retrain", "--samples", 40, *FEW, "--out", tmp_path / "found", "--json")
    done = call(capfd, evaluate, run, *words)
    assert done.code == 0, done.err
    figures = json.loads(done.out.splitlines()[-1])
    assert figures == json.loads((tmp_path / "found" / "figures.json").read_text())
    shares = ("recognised", "recognised_real", "accuracy_retrained")
    assert all(0 <= figures[f"samples/{name}"] <= 1 for name in shares)
    assert figures["samples/frechet"] > 3 * figures["samples/frechet_real"] > 0  # it draws noise
    assert figures["samples/nearest"] > figures["samples/nearest_real"]
    assert figures["test/loss"] > 0.5
    assert {file.name for file in (tmp_path / "found").iterdir()} == {"figures.json", "nearest.png", "samples.png"}


def test_a_judge_is_missed_and_must_fit(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = call(capfd, evaluate, run, "--samples", 5, *FEW, "--out", tmp_path / "found")
    assert done.code == 0
    assert any("--judge" in line for line in done.err)
    other = write_run(tmp_path / "vit", GREY)  # whose classes are called otherwise
    for words, complaint in (
        (("--judge", other), "has classes = "),
        (("--retrain",), "retrain needs judge"),
        (("--tta", "flip"), "tta = 'flip' has no effect"),
    ):
        done = call(capfd, evaluate, run, *words, *FEW)
        assert (done.code, len(done.err)) == (2, 1)
        assert complaint in done.err[0]
    done = call(capfd, evaluate, other, "--guidance", 2)
    assert (done.code, done.err) == (2, ["error: guidance = 2.0 has no effect on the task 'classification'"])
