"""Sounds through the commands: trained on several kinds of files, classified whatever their rate, explained."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from core.config import TransformerConfig
from core.files.json_files import read_json
from tests.vision.data.sounds import chord, write_sounds, write_takes
from tests.vision.runs import Outcome, call
from vision.augmentation.config import AugmentConfig, SoundAugment
from vision.config import TrainConfig
from vision.data.batches import Images
from vision.data.load import load_data, load_part
from vision.data.preparation import Preparation
from vision.data.spectrograms import SoundConfig
from vision.evaluate import evaluate
from vision.explain import explain, explain_images
from vision.export import export
from vision.models.config import ViTConfig
from vision.predict import predict
from vision.presets import PRESETS
from vision.tasks.classification import prepare
from vision.train import train
from vision.trained import load

SOUND = SoundConfig(rate=8000)
SMALL = TrainConfig(
    steps=80,
    batch_size=16,
    data="fsdd",
    precision="fp32",
    device="cpu",
    media="sounds",
    sound=SOUND,
    augment=AugmentConfig(sound=SoundAugment(time_stretch=0.2, time_masks=1, pitch_masks=1, pitch_share=0.1)),
    model=ViTConfig(
        image_size=(16, 36),
        patch=(16, 4),
        padding="columns",
        core=TransformerConfig(dim=32, depth=2, n_heads=2),
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sounds(tmp_path_factory.mktemp("sounds"), 20)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_DATA", str(out.parent / "cache"))
        figures = train(replace(SMALL, data=str(folder), out=out))
    assert figures["val/accuracy"] == 1
    return out


@pytest.fixture
def command(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path / "cache"))
    return lambda function, *words: call(capfd, function, *words)


# Data


@pytest.mark.parametrize("storage", ["memory", "stream"])
def test_the_statistics_are_those_of_the_training_sounds_without_padding(
    storage: Any, folder: Path, tmp_path: Path
) -> None:
    data = load_data(str(folder), size=(16, 36), sound=SOUND, storage=storage, root=tmp_path, validation=0.3)
    pixels = torch.cat([image for image, _ in data.train.batches([np.arange(len(data.train))])])
    real = (pixels.amax((1, 2), keepdim=True) > 0).expand_as(pixels)
    values = pixels[real].double() / 255
    assert real.float().mean() < 0.95, "some of it is padding"
    assert data.preparation.mean[0] == pytest.approx(float(values.mean()), abs=1e-9)
    assert data.preparation.std[0] == pytest.approx(float(values.std(correction=0)), abs=1e-9)
    normal = data.preparation(pixels, (16, 36))
    assert normal[~real].eq(0).all()
    assert float(normal[real].mean()) == pytest.approx(0, abs=1e-4)
    assert float(normal[real].std()) == pytest.approx(1, abs=1e-2)


def test_what_evaluation_gets_is_what_prediction_reads(folder: Path, run: Path, tmp_path: Path) -> None:
    preparation = load(run).preparation
    assert preparation.sound == SOUND
    images = load_part(str(folder), "train", preparation, storage="memory", root=tmp_path)
    assert isinstance(images, Images)
    for number in range(0, len(images), 13):
        assert torch.equal(images.pixels[number], preparation.read(folder / images.files[number]))


def test_fsdd_is_read_by_its_parts(tmp_path: Path) -> None:
    write_takes(tmp_path)
    for name, trained, tested in (("fsdd", 60, 150), ("fsdd:bob", 140, 70)):
        data = load_data(name, size=(16, 36), sound=SOUND, validation=0, root=tmp_path)
        assert (len(data.train), len(data.validation)) == (trained, 0)
        assert len(load_part(name, "test", data.preparation, root=tmp_path)) == tested


# Commands


def test_a_clip_is_classified_whatever_its_rate_and_channels(
    run: Path, command: Callable[..., Outcome], tmp_path: Path
) -> None:
    clip = np.stack([chord("high", 31, rate=44_100)] * 2, 1)
    soundfile.write(tmp_path / "clip.wav", clip, 44_100, subtype="PCM_24")
    said = command(predict, run, tmp_path / "clip.wav", "--device", "cpu")
    assert (said.code, said.err) == (0, [])
    assert said.out.splitlines()[0].split()[1] == "high"


def test_a_longer_clip_is_cut_and_that_is_told(run: Path, command: Callable[..., Outcome], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", chord("low", 3, seconds=3), 8000)
    said = command(predict, run, tmp_path / "long.wav", "--device", "cpu")
    assert said.code == 0
    [line] = said.err
    assert "88% of the duration of these sounds is never heard" in line


@pytest.mark.parametrize("content", [b"", b"words, and no sound at all " * 30])
def test_a_file_that_is_no_sound_is_one_line(
    content: bytes, run: Path, command: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "bad.wav").write_bytes(content)
    said = command(predict, run, tmp_path / "bad.wav", "--device", "cpu")
    [line] = said.err
    assert (said.code, said.out) == (2, "")
    assert str(tmp_path / "bad.wav") in line
    soundfile.write(tmp_path / "good.wav", chord("low", 1), 8000)
    said = command(predict, run, tmp_path, "--skip-bad", "--device", "cpu")
    assert said.code == 0
    assert "good.wav" in said.out
    assert "1 of 2 sounds cannot be read" in said.err[-1]


def test_an_evaluation_counts_sounds_and_refuses_to_mirror_them(
    run: Path, folder: Path, command: Callable[..., Outcome], tmp_path: Path
) -> None:
    said = command(evaluate, run, "--out", tmp_path / "evaluation", "--device", "cpu")
    assert said.code == 0
    assert "6 sounds (validation)" in said.out
    said = command(evaluate, run, "--tta", "flip", "--device", "cpu")
    assert said.code == 2
    assert "tta = 'flip' is for images" in said.err[-1]


def test_an_explanation_is_over_time_and_frequency(
    run: Path, folder: Path, command: Callable[..., Outcome], tmp_path: Path
) -> None:
    trained, clip = load(run), folder / "low" / "000.wav"
    shown = explain(trained, trained.preparation.read(clip), [0, 1])
    windows = 1 + len(chord("low", 0)) // 80
    columns = -(-windows // 4)
    assert {values.shape for values in shown.maps.values()} == {(1, columns)}
    assert shown.image.shape == (1, 16, 4 * columns), "without padding"
    words = [folder / name / f"00{number}.wav" for number, name in ((0, "low"), (3, "high"))]
    said = command(explain_images, run, *words, "--out", tmp_path / "maps.png", "--device", "cpu")
    assert said.code == 0, said.err
    with Image.open(tmp_path / "maps.png") as picture:
        assert picture.width > picture.height


def test_a_file_for_onnx_knows_what_is_padding(run: Path, command: Callable[..., Outcome], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    said = command(export, run, "--onnx", tmp_path / "model.onnx")
    assert said.code == 0, said.err
    session, trained = onnxruntime.InferenceSession(tmp_path / "model.onnx"), load(run)
    stored = torch.zeros(2, 1, 16, 36, dtype=torch.uint8)
    stored[0, :, :, :9], stored[1, :, :, :20] = 30, 200
    [taken] = session.get_inputs()
    [logits] = session.run(None, {taken.name: (stored.float() / 255).numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), trained.logits(stored), atol=1e-4, rtol=0)
    said = command(export, run, "--timm", tmp_path / "timm")
    assert said.code == 2
    assert "timm's layout has no place for" in said.err[-1]


def test_a_run_goes_on_from_weights_with_other_classes(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path / "cache"))
    write_takes(tmp_path / "cache")
    config = replace(
        SMALL, data="fsdd", init_from=str(run), out=tmp_path / "out", model=replace(SMALL.model, image_size=(16, 48))
    )
    data, filled, source = prepare(config)
    assert source is not None
    assert filled.model.grid == (1, 12)
    assert filled.model.coordinate_side is None, "a longer sound, not a finer one"
    assert source.start(filled.model, data.preparation.classes)(torch.randn(1, 1, 16, 48)).shape == (1, 10)


# Mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "cifar10"}, "data = 'cifar10' holds images: sounds are fsdd"),
        ({"data": "fsdd", "media": "images", "model": ViTConfig()}, "data = 'fsdd' holds sounds: take the preset fsdd"),
        ({"model": ViTConfig()}, "model.padding = 'none' must be 'columns' for sounds"),
        ({"media": "images", "data": "digits"}, "model.padding = 'columns' must be 'none' for images"),
        ({"half_size": 0.5}, "half_size = 0.5 is for images"),
        ({"augment": AugmentConfig(flip="random")}, "augment.flip = 'random' is for images"),
        ({"augment": AugmentConfig(operations=2)}, "augment.operations = 2 is for images"),
        ({"augment": AugmentConfig(cutmix=1.0)}, "augment.cutmix = 1.0 is for images"),
    ],
)
def test_settings_that_are_not_for_sounds(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_settings_of_the_other_kind_have_no_effect() -> None:
    assert "fit" in SMALL.unused()
    assert {"sound", "augment.sound"} <= PRESETS["vit-digits"].unused().keys()


def test_sounds_have_no_colours_and_need_a_library(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="channels = 3 must be 1: sounds have no colours"):
        load_data(str(folder), size=(16, 36), sound=SOUND, channels=3, root=tmp_path)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ValueError, match=r"pip install 'triptych\[audio\]'"):
        load_data(str(folder), size=(16, 36), sound=SOUND, root=tmp_path)


def test_a_folder_of_images_is_no_folder_of_sounds(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / "0.png")
    with pytest.raises(ValueError, match=r"the class folder .*a has no sounds: they end in \.wav \.flac \.ogg"):
        load_data(str(tmp_path), size=(16, 36), sound=SOUND, root=tmp_path / "data")


def test_a_preparation_of_old_runs_is_of_images(tmp_path: Path) -> None:
    Preparation(("a", "b"), 1, (0.5,), (0.5,), 8).save(tmp_path)
    record = read_json(tmp_path / "images.json")
    assert record["sound"] is None
    del record["sound"]
    (tmp_path / "images.json").write_text(json.dumps(record))
    assert Preparation.load(tmp_path).sound is None
