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
from vision.data.spectrograms import SoundConfig
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
    """A trained model with its normalisation: pixels float32 (B, C, H, W) in 0..1 -> float32 (B, K)."""

    mean: Tensor  # (C, 1, 1)
    std: Tensor

    def __init__(self, trained: Trained, options: ExportConfig):
        super().__init__()
        self.model = trained.model
        if options.precision == "fp16":
            self.model = deepcopy(trained.model).half()
        self.probabilities = options.output == "probabilities"
        self.padded = trained.preparation.sound is not None
        self.register_buffer("mean", torch.tensor(trained.preparation.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(trained.preparation.std).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        normal = (pixels - self.mean) / self.std
        if self.padded:  # where columns of zeros are no sound, as `Preparation.normalise` has it
            normal = normal * (pixels.amax((-3, -2), keepdim=True) > 0)
        logits = self.model(normal.to(self.model.head.weight.dtype)).float()
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
    """Noise in the shape of images, always the same: float32 (count, C, H, W) in 0..1; sounds of several lengths."""
    c = trained.model.config
    generator = torch.Generator().manual_seed(count)
    noise = torch.rand(count, c.channels, *c.size, generator=generator)
    for number, image in enumerate(noise if c.padding == "columns" else ()):
        image[..., c.size[1] * (number + 1) // count :] = 0
    return noise


def notes(trained: Trained, options: ExportConfig) -> dict[str, str]:
    """What a user of the file must know."""
    prepared, config = trained.preparation, trained.model.config
    rows, columns = config.size
    colors = "red, green, blue" if prepared.channels == 3 else "grey"
    shape = "square" if rows == columns else "rectangle"
    whole = {"pad": "the whole image between black bars", "squash": f"the whole image, distorted to a {shape}"}
    central = "square, {:.4g} of the shorter side" if rows == columns else "part of that shape, {:.4g} of the largest"
    shown = whole.get(prepared.fit, f"the central {central.format(prepared.crop)}")
    crop = f"{shown}, resized bicubic with antialiasing" if prepared.sound is None else "a spectrogram, see sound"
    after = "; softmax gives probabilities" if options.output == "logits" else ""
    return {
        "classes": json.dumps(prepared.classes),
        "input": f"pixels: float32 (batch, {prepared.channels}, {rows}, {columns}), {colors}, 0 to 1; {crop}",
        "output": f"{options.output}: float32 (batch, {len(prepared.classes)}){after}",
        "precision": options.precision,
        "image_size": str(rows) if rows == columns else f"{rows} {columns}",
        "mean": json.dumps(prepared.mean),
        "std": json.dumps(prepared.std),
        "normalization": "inside the model: (pixels - mean) / std",
        **({"sound": spectrogram_note(prepared.sound)} if prepared.sound else {}),
        "step": str(trained.step),
    }


def spectrogram_note(sound: SoundConfig) -> str:
    """How a sound becomes pixels."""
    return (
        f"pixels are a spectrogram: mono at {sound.rate} Hz, Hann windows of {sound.window:g} ms every "
        f"{sound.hop:g} ms, power in mel bands from {sound.low:g} to {sound.top:g} Hz, the highest first; "
        f"(1 + 254 s) / 255, where s is 1 for the loudest of the clip and 0 from {sound.depth:g} dB below; columns of "
        f"zeros after the end"
    )


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
