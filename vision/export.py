"""Export a trained model: as an ONNX file, from pixels to logits, for any runtime, or as a folder that timm loads.

python -m vision.export DIR --onnx FILE.onnx [--output logits|probabilities] [--precision fp32|fp16] [--opset N]
python -m vision.export DIR --timm FOLDER [--precision fp32|fp16]
"""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from core.checks import check_choices
from core.cli.arguments import parse_fields, run_folder
from core.cli.exits import main
from core.files.onnx import NEWEST, OLDEST, write_onnx
from core.training.trained import Weights
from vision.pretrained.timm_export import save_timm
from vision.trained import Trained, load

TOLERANCE = {"fp32": 1e-4, "fp16": 3e-2}
"""Largest difference between the file and PyTorch in float32; in fp16 as a share of the largest output, or of 1."""
BATCHES = (2, 1, 5)
"""Batch sizes at which the file is compared; the first is traced."""


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

    Raises as `write_onnx` does: nothing is written then, and an earlier file stays.
    """
    exact = Classifier(trained, replace(options, precision="fp32")).eval()
    return write_onnx(
        exact if options.precision == "fp32" else Classifier(trained, options).eval(),
        [{"pixels": example(trained, count)} for count in BATCHES],
        [options.output],
        options.onnx,
        dynamic={"pixels": {0: torch.export.Dim("batch")}},
        notes=notes(trained, options),
        tolerance=TOLERANCE[options.precision],
        opset=options.opset,
        reference=exact,
        measured="absolute" if options.precision == "fp32" else "relative",
    )


def example(trained: Trained, count: int) -> Tensor:
    """Noise in the shape of images, always the same: float32 (count, C, S, S) in 0..1."""
    c = trained.model.config
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, c.channels, c.image_size, c.image_size, generator=generator)


def notes(trained: Trained, options: ExportConfig) -> dict[str, str]:
    """What a user of the file must know."""
    prepared, size = trained.preparation, trained.model.config.image_size
    colors = "red, green, blue" if prepared.channels == 3 else "grey"
    whole = {"pad": "the whole image between black bars", "squash": "the whole image, distorted to a square"}
    shown = whole.get(prepared.fit, f"the central square, {prepared.crop:.4g} of the shorter side")
    crop = f"{shown}, resized bicubic with antialiasing"
    after = "; softmax gives probabilities" if options.output == "logits" else ""
    return {
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
