"""`vision.export`: a file that computes what PyTorch computes, and says what a user of it must know."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vision
from core.config import PositionConfig, TransformerConfig
from tests.vision.runs import COLOR, GREY, Outcome, call, write_run
from vision import export as module
from vision.export import NEWEST, OLDEST, export
from vision.models.config import ViTConfig
from vision.trained import Trained, load

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

Export = Callable[..., Outcome]


def core(position: PositionConfig, **settings: object) -> TransformerConfig:
    return replace(COLOR.core, position=position, **({"depth": 1} | settings))


MODERN = core(PositionConfig("rotary"), bias="none", qk_norm="rms", norm="rms", feedforward="relu2")
PUBLIC = core(PositionConfig("learned"), feedforward="gelu", depth=2, layer_scale=0.1, drop_path=0.1, dropout=0.1)
COMPACT = core(PositionConfig("sinusoidal"), feedforward="swiglu", norm="rmsnorm", qk_norm="layernorm")
GROUPED = core(PositionConfig("t5", direction="both"), n_kv_heads=1, feedforward="gelu-tanh", norm_placement="post")
SHAPES: dict[str, tuple[ViTConfig, int]] = {
    "mean, rotary, relu2": (replace(COLOR, core=MODERN), NEWEST),
    "class, registers, learned": (replace(COLOR, pool="class", registers=2, coordinates="raster", core=PUBLIC), OLDEST),
    "attention, conv, sinusoidal": (replace(COLOR, pool="attention", tokenizer="conv", core=COMPACT), OLDEST),
    "registers, grouped, t5, grey": (replace(GREY, registers=1, core=GROUPED), OLDEST),
}


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Export:
    return lambda *words: call(capfd, export, *words)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("use") / "run", GREY)


def difference(file: Path, trained: Trained, count: int) -> float:
    """Between logits of the same images, uint8, by the file and by PyTorch."""
    c = trained.model.config
    pixels = torch.randint(256, (count, c.channels, c.image_size, c.image_size), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"pixels": (pixels.float() / 255).numpy()})
    assert logits.shape == (count, c.classes)
    return float((torch.from_numpy(logits) - trained.logits(pixels)).abs().max())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_file_computes_the_same_and_says_how(command: Export, tmp_path: Path, shape: str) -> None:
    config, opset = SHAPES[shape]
    run, file = write_run(tmp_path / "run", config), tmp_path / "new" / "model.onnx"
    code, out, err = command(run, "--onnx", file, "--opset", opset)
    assert (code, err) == (0, [])
    assert out.startswith(f"wrote step 1 of {run} to {file}: ")
    assert len(out.splitlines()) == 1
    assert list(file.parent.iterdir()) == [file]
    trained = load(run)
    assert max(difference(file, trained, count) for count in (1, 7)) <= 1e-4
    assert difference(file, load(run, weights="raw"), 3) > 1e-2
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset}
    check_description(model, trained)


def check_description(model: Any, trained: Trained) -> None:
    """What goes in and out, the classes, and nothing of the folders it was made in."""
    c, prepared = trained.model.config, trained.preparation
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert tuple(json.loads(said["classes"])) == prepared.classes
    assert json.loads(said["mean"]) == list(prepared.mean)
    assert json.loads(said["std"]) == list(prepared.std)
    assert said["image_size"] == str(c.image_size)
    assert said["input"].startswith(f"pixels: float32 (batch, {c.channels}, {c.image_size}, {c.image_size}), ")
    shapes = {
        entry.name: [axis.dim_param or axis.dim_value for axis in entry.type.tensor_type.shape.dim]
        for entry in (*model.graph.input, *model.graph.output)
    }
    size = c.image_size
    assert shapes == {"pixels": ["batch", c.channels, size, size], "logits": ["batch", c.classes]}
    content = model.SerializeToString()
    assert str(Path(vision.__file__).parent).encode() not in content
    assert b"stack_trace" not in content


def test_probabilities_in_half_precision(command: Export, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    code, out, err = command(run, "--onnx", file, "--output", "probabilities", "--precision", "fp16")
    assert (code, err) == (0, [])
    assert "probabilities differ from PyTorch's by at most" in out
    trained, pixels = load(run), torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [entry.type for entry in (*session.get_inputs(), *session.get_outputs())] == ["tensor(float)"] * 2
    [shares] = session.run(["probabilities"], {"pixels": (pixels.float() / 255).numpy()})
    torch.testing.assert_close(torch.from_numpy(shares), trained.logits(pixels).softmax(-1), atol=0.02, rtol=0)
    model = onnx.load(file)
    assert {entry.key: entry.value for entry in model.metadata_props}["precision"] == "fp16"
    weights = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 2}
    assert weights == {onnx.TensorProto.FLOAT16}


def test_a_folder_for_timm(command: Export, tmp_path: Path) -> None:
    import timm

    shape = core(PositionConfig("learned"), norm_eps=1e-6)
    run = write_run(tmp_path / "run", replace(COLOR, pool="class", coordinates="raster", core=shape))
    code, out, err = command(run, "--timm", tmp_path / "left")
    assert (code, err) == (0, [])
    assert f'timm.create_model("local-dir:{tmp_path / "left"}", pretrained=True)' in out
    trained, pixels = load(run), torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'left'}", pretrained=True).eval()
    torch.testing.assert_close(theirs(trained.preparation(pixels, 16)), trained.logits(pixels), atol=1e-4, rtol=1e-5)


def test_a_file_that_computes_something_else_is_not_kept(
    command: Export, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.TOLERANCE, "fp32", 0.0)  # rounding alone is too much
    file = tmp_path / "model.onnx"
    file.write_bytes(b"the file before")
    code, out, [line] = command(run, "--onnx", file)
    assert (code, out) == (1, "")
    assert line.startswith("error: the file's logits differ by ")
    assert "e-" in line
    assert file.read_bytes() == b"the file before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(
    command: Export, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, out, [line] = command(run, "--onnx", tmp_path / "model.onnx")
    assert (code, out) == (2, "")
    assert f"package {package}: pip install 'triptych[onnx]'" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "onnx is missing"),
        (["--onnx", "model.pt"], "onnx = 'model.pt' "),
        (["--onnx", "model.onnx", "--opset", "17"], "opset = 17 "),
        (["--onnx", "model.onnx", "--opset", "24"], "opset = 24 "),
        (["--onnx", "model.onnx", "--checkpoint", "9"], "checkpoint = '9' "),
        (["--timm", "left", "--opset", "20"], "--opset has no effect"),
        (["--timm", "left", "--output", "probabilities"], "--output has no effect"),
        (["--timm", "left"], "timm's layout has no place for core.position.kind = 'rotary'"),
    ],
)
def test_bad_input_is_reported_in_one_line(
    command: Export, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, [line] = command(run, *words)
    assert (code, out) == (2, "")
    assert line.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())
