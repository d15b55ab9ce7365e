"""Export a trained model: as an ONNX file, from pixels to logits, for any runtime, or as a folder that timm loads.

python -m vision.export DIR --onnx FILE.onnx [--output logits|probabilities] [--precision fp32|fp16] [--opset N]
python -m vision.export DIR --timm FOLDER [--precision fp32|fp16]
"""

from __future__ import annotations

import importlib.util
import json
import sys
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from core.attention import record_attention
from core.checks import check_choices
from core.cli.arguments import parse_fields, run_folder
from core.cli.exits import RunFailure, main
from core.files.atomic import atomic_write
from core.training.trained import Weights
from vision.pretrained.timm_export import save_timm
from vision.trained import Trained, load

if TYPE_CHECKING:
    from onnx import ModelProto

TOLERANCE = {"fp32": 1e-4, "fp16": 3e-2}
"""Largest difference between the file and PyTorch in float32; in fp16 as a share of the largest output, or of 1."""
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
    """The ONNX file to write; it replaces one that is there."""
    timm: Path = Path()
    """The new folder to write in timm's layout, config.json and model.safetensors."""
    output: Literal["logits", "probabilities"] = "logits"
    """What comes out of the ONNX file."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """Of the weights, and of ONNX's arithmetic between pixels and outputs, which are float32."""
    opset: int = OLDEST
    """ONNX operator set, 18 to 23; the oldest is understood most widely."""
    checkpoint: str = "best"
    """best, last, last-good, a step, or last-5, the mean of the weights of the last five."""
    weights: Weights = "averaged"
    """Averaged weights, where the run kept them, or raw ones."""

    def __post_init__(self) -> None:
        check_choices(self)
        if self.onnx != Path() and self.onnx.suffix.lower() != ".onnx":
            raise ValueError(f"onnx = {str(self.onnx)!r} must be a file that ends in .onnx")
        if not OLDEST <= self.opset <= NEWEST:
            raise ValueError(f"opset = {self.opset} must be from {OLDEST} to {NEWEST}")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        names = ("output", "opset") if self.onnx == Path() else ()
        return dict.fromkeys(names, "it is for --onnx")


class Classifier(nn.Module):
    """A trained model with its normalisation: pixels float32 (B, C, S, S) in 0..1 -> float32 (B, K)."""

    mean: Tensor  # (C, 1, 1)
    std: Tensor

    def __init__(self, trained: Trained, options: ExportConfig):
        super().__init__()
        self.model = trained.model
        if options.precision == "fp16":
            self.model = deepcopy(trained.model).half()
        self.probabilities = options.output == "probabilities"
        self.register_buffer("mean", torch.tensor(trained.preparation.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(trained.preparation.std).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        logits = self.model(((pixels - self.mean) / self.std).to(self.model.head.weight.dtype)).float()
        return logits.softmax(-1) if self.probabilities else logits


def export_onnx(trained: Trained, options: ExportConfig) -> float:
    """Writes a model on the CPU as an ONNX file; returns the largest difference of its outputs from PyTorch's.

    Raises ValueError where a package is missing or the model too large for the format; RunFailure where the file does
    not compute the same. Nothing is written then, and an earlier file stays.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"vision.export needs the package {name}: pip install 'triptych[onnx]'")
    classifier = Classifier(trained, options).eval()
    size = sum(p.numel() * p.element_size() for p in classifier.parameters())
    if size > LARGEST:
        raise ValueError(f"the model's weights take {size / 2**30:.1f} GiB; an ONNX file holds less than 2")
    tolerance = TOLERANCE[options.precision]
    with atomic_write(options.onnx) as aside:
        model = to_onnx(classifier, example(trained, 2), options)
        describe(model, trained, options)
        aside.write_bytes(model.SerializeToString())
        difference = max(compare(aside, trained, example(trained, count), options) for count in BATCHES)
        if not difference <= tolerance:  # also where it is NaN
            raise RunFailure(
                f"the file's {options.output} differ by {difference:.2g} from PyTorch's, more than {tolerance:g}"
            )
    return difference


def example(trained: Trained, count: int) -> Tensor:
    """Noise in the shape of images, always the same: float32 (count, C, S, S) in 0..1."""
    c = trained.model.config
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, c.channels, c.image_size, c.image_size, generator=generator)


def to_onnx(classifier: Classifier, pixels: Tensor, options: ExportConfig) -> ModelProto:
    """The model as an ONNX graph for any number of images, without traces of the machine."""
    with record_attention(classifier):  # the explicit path, whose operators every operator set has
        program = torch.onnx.export(
            classifier,
            (pixels,),
            dynamo=True,
            verbose=False,
            opset_version=options.opset,
            input_names=["pixels"],
            output_names=[options.output],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None  # since no file was given
    model = program.model_proto
    graph = model.graph
    for parts in (graph.node, graph.value_info, graph.input, graph.output, graph.initializer, [graph]):
        for part in parts:
            del part.metadata_props[:]  # lines of source code, and their folders
    return model


def describe(model: ModelProto, trained: Trained, options: ExportConfig) -> None:
    """Writes what a user of the file must know into its metadata."""
    from onnx.helper import set_model_props

    prepared, size = trained.preparation, trained.model.config.image_size
    colors = "red, green, blue" if prepared.channels == 3 else "grey"
    whole = {"pad": "the whole image between black bars", "squash": "the whole image, distorted to a square"}
    shown = whole.get(prepared.fit, f"the central square, {prepared.crop:.4g} of the shorter side")
    crop = f"{shown}, resized bicubic with antialiasing"
    after = "; softmax gives probabilities" if options.output == "logits" else ""
    properties = {
        "classes": json.dumps(prepared.classes),
        "input": f"pixels: float32 (batch, {prepared.channels}, {size}, {size}), {colors}, 0 to 1; {crop}",
        "output": f"{options.output}: float32 (batch, {len(prepared.classes)}){after}",
        "precision": options.precision,
        "image_size": str(size),
        "mean": json.dumps(prepared.mean),
        "std": json.dumps(prepared.std),
        "normalization": "inside the model: (pixels - mean) / std",
        "step": str(trained.step),
    }
    set_model_props(model, properties)
    model.producer_name, model.graph.name = "triptych", "vit"


@torch.no_grad()
def compare(file: Path, trained: Trained, pixels: Tensor, options: ExportConfig) -> float:
    """The largest difference between the outputs of a file, by onnxruntime, and PyTorch's in float32: see TOLERANCE."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
    [outputs] = session.run([options.output], {"pixels": pixels.numpy()})
    expected = trained.model(trained.preparation.normalise(pixels))
    if options.output == "probabilities":
        expected = expected.softmax(-1)
    scale = float(expected.abs().max().clamp(min=1)) if options.precision == "fp16" else 1.0
    return float((torch.from_numpy(outputs) - expected).abs().max()) / scale


def export(argv: list[str]) -> None:
    """The command. Raises ValueError for bad input, before anything is written."""
    folder, rest = run_folder(argv, "vision.export")
    options = parse_fields(
        ExportConfig(),
        rest,
        prog="python -m vision.export DIR",
        description="Exports a trained model as an ONNX file, or as a folder that timm loads.",
    )
    if options.onnx == options.timm == Path():
        raise ValueError("onnx is missing: name the file with --onnx FILE.onnx, or a folder with --timm FOLDER")
    trained = load(folder, options.checkpoint, weights=options.weights)
    if options.timm != Path():
        dtype = torch.float16 if options.precision == "fp16" else torch.float32
        save_timm(trained.model, trained.preparation, options.timm, dtype)
        load_it = f'timm.create_model("local-dir:{options.timm}", pretrained=True)'
        print(f"wrote step {trained.step} of {folder} to {options.timm}; load it with: {load_it}")
    if options.onnx != Path():
        difference = export_onnx(trained, options)
        share = " of the largest" if options.precision == "fp16" else ""
        print(
            f"wrote step {trained.step} of {folder} to {options.onnx}: {options.onnx.stat().st_size / 2**20:.1f} MiB, "
            f"operator set {options.opset}; {options.output} differ from PyTorch's by at most {difference:.1e}{share}"
        )


if __name__ == "__main__":
    main(lambda: export(sys.argv[1:]))
