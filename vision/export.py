"""Export a trained model: one ONNX file, from pixels to logits, for any runtime of the format.

python -m vision.export DIR --onnx FILE.onnx [--opset N]
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.attention import record_attention
from core.cli.arguments import parse_fields, run_folder
from core.cli.exits import RunFailure, main
from core.files.atomic import atomic_write
from core.training.trained import Weights
from vision.trained import Trained, load

if TYPE_CHECKING:
    from onnx import ModelProto

TOLERANCE = 1e-4
"""Largest difference of a logit between the file and PyTorch."""
BATCHES = (1, 2, 5)
"""Batch sizes at which the file is compared."""
LARGEST = 2**31 - 1
"""Bytes that an ONNX file, which is one protobuf message, may have."""
OLDEST, NEWEST = 18, 23
"""The operator sets that PyTorch's exporter writes without conversion."""


@dataclass(frozen=True)
class ExportConfig:
    """Settings of `vision.export`."""

    onnx: Path = Path()
    """The file to write; it replaces one that is there."""
    opset: int = OLDEST
    """ONNX operator set, 18 to 23; the oldest is understood most widely."""
    checkpoint: str = "best"
    """best, last, last-good, or a step."""
    weights: Weights = "averaged"
    """Averaged weights, where the run kept them, or raw ones."""


class Classifier(nn.Module):
    """A trained model with its normalisation: pixels float32 (B, C, S, S) in 0..1 -> logits (B, K)."""

    mean: Tensor  # (C, 1, 1)
    std: Tensor

    def __init__(self, trained: Trained):
        super().__init__()
        self.model = trained.model
        self.register_buffer("mean", torch.tensor(trained.preparation.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(trained.preparation.std).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model((pixels - self.mean) / self.std)


def export_onnx(trained: Trained, target: Path, opset: int = OLDEST) -> float:
    """Writes a model on the CPU as an ONNX file; returns the largest difference of its logits from PyTorch's.

    Raises ValueError where a package is missing, `opset` is out of range, or the model too large for the format;
    RunFailure where the file does not compute the same. Nothing is written then, and an earlier file stays.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"vision.export needs the package {name}: pip install 'triptych[onnx]'")
    if not OLDEST <= opset <= NEWEST:
        raise ValueError(f"opset = {opset} must be from {OLDEST} to {NEWEST}")
    size = sum(p.numel() * p.element_size() for p in trained.model.parameters())
    if size > LARGEST:
        raise ValueError(f"the model's weights take {size / 2**30:.1f} GiB; an ONNX file holds less than 2")
    with atomic_write(target) as aside:
        model = to_onnx(Classifier(trained).eval(), example(trained, 2), opset)
        describe(model, trained)
        aside.write_bytes(model.SerializeToString())
        difference = max(compare(aside, trained, example(trained, count)) for count in BATCHES)
        if not difference <= TOLERANCE:  # also where it is NaN
            raise RunFailure(f"the file's logits differ by {difference:.2g} from PyTorch's, more than {TOLERANCE:g}")
    return difference


def example(trained: Trained, count: int) -> Tensor:
    """Noise in the shape of images, always the same: float32 (count, C, S, S) in 0..1."""
    c = trained.model.config
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, c.channels, c.image_size, c.image_size, generator=generator)


def to_onnx(classifier: Classifier, pixels: Tensor, opset: int) -> ModelProto:
    """The model as an ONNX graph for any number of images, without traces of the machine."""
    with record_attention(classifier):  # the explicit path, whose operators every operator set has
        program = torch.onnx.export(
            classifier,
            (pixels,),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None  # since no file was given
    model = program.model_proto
    graph = model.graph
    for parts in (graph.node, graph.value_info, graph.input, graph.output, graph.initializer, [graph]):
        for part in parts:
            del part.metadata_props[:]  # lines of source code, and their folders
    return model


def describe(model: ModelProto, trained: Trained) -> None:
    """Writes what a user of the file must know into its metadata."""
    from onnx.helper import set_model_props

    prepared, size = trained.preparation, trained.model.config.image_size
    colors = "red, green, blue" if prepared.channels == 3 else "grey"
    crop = f"the central square, {prepared.crop:.4g} of the shorter side, resized bicubic with antialiasing"
    properties = {
        "classes": json.dumps(prepared.classes),
        "input": f"pixels: float32 (batch, {prepared.channels}, {size}, {size}), {colors}, 0 to 1; {crop}",
        "output": f"logits: float32 (batch, {len(prepared.classes)}); softmax gives probabilities",
        "image_size": str(size),
        "mean": json.dumps(prepared.mean),
        "std": json.dumps(prepared.std),
        "normalization": "inside the model: (pixels - mean) / std",
        "step": str(trained.step),
    }
    set_model_props(model, properties)
    model.producer_name, model.graph.name = "triptych", "vit"


@torch.no_grad()
def compare(file: Path, trained: Trained, pixels: Tensor) -> float:
    """The largest difference between the logits of a file, by onnxruntime, and those of PyTorch."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
    [logits] = session.run(["logits"], {"pixels": pixels.numpy()})
    expected = trained.model(trained.preparation.normalise(pixels))
    return float((torch.from_numpy(logits) - expected).abs().max())


def export(argv: list[str]) -> None:
    """The command."""
    folder, rest = run_folder(argv, "vision.export")
    options = parse_fields(
        ExportConfig(),
        rest,
        prog="python -m vision.export DIR",
        description="Exports a trained model as an ONNX file.",
    )
    if options.onnx == Path():
        raise ValueError("onnx is missing: name the file with --onnx FILE.onnx")
    if options.onnx.suffix.lower() != ".onnx":
        raise ValueError(f"onnx = {str(options.onnx)!r} must be a file that ends in .onnx")
    trained = load(folder, options.checkpoint, weights=options.weights)
    difference = export_onnx(trained, options.onnx, options.opset)
    print(
        f"wrote step {trained.step} of {folder} to {options.onnx}: {options.onnx.stat().st_size / 2**20:.1f} MiB, "
        f"operator set {options.opset}; logits differ from PyTorch's by at most {difference:.1e}"
    )


if __name__ == "__main__":
    main(lambda: export(sys.argv[1:]))
