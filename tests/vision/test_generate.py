"""`vision.generate`, and `vision.evaluate` of a model that draws: what they write, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.config import PositionConfig, TransformerConfig
from core.training.command import parse
from tests.vision.runs import GREY, call, write_run
from vision.evaluate import evaluate
from vision.generate import generate
from vision.models.dit import DiTConfig
from vision.presets import PRESETS
from vision.tasks.configs import CONFIGS
from vision.tasks.flow_config import FlowConfig
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
    assert sheet.size == (10 * 66 + 2, 2 * 66 + 2)


def test_a_sheet_a_film_and_images_by_themselves(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, film, images = tmp_path / "sheet.png", tmp_path / "film.gif", tmp_path / "images"
    words = ("--class", 7, 3, "--number", 6, "--guidance", 2, *FEW, "--film", film, "--images", images)
    done = call(capfd, generate, run, "--out", out, *words)
    assert done.code == 0, done.err
    assert "6 images" in done.out
    assert "seconds each" in done.out
    assert Image.open(out).size == (2 * 66 + 2, 3 * (64 + 14 + 2) + 2)  # a caption of one line below each
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
