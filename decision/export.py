"""Export a trained agent: a folder in transformers' layout where that holds it, or one ONNX file for any runtime.

python -m decision.export DIR --out FOLDER
python -m decision.export DIR --onnx FILE.onnx [--opset N]

The folder is loaded by transformers' DecisionTransformerModel; beside the weights it has statistics.json: what
observations and returns are normalised by, and how many steps the model attends to. The ONNX file is one step of
acting with its window: observations, actions and returns as in the environment, the statistics inside.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from core.cli.arguments import parse_fields, run_folder
from core.cli.exits import main
from core.files.onnx import OLDEST
from decision.models.onnx_step import export_onnx
from decision.models.pretrained import export_pretrained
from decision.trained import load


@dataclass(frozen=True)
class ExportConfig:
    """Settings of `decision.export`."""

    out: Path | None = None
    """The new folder, in Hugging Face's layout: config.json, model.safetensors, statistics.json."""
    onnx: Path | None = None
    """The file to write; it replaces one that is there."""
    opset: int = OLDEST
    """ONNX operator set, 18 to 23; the oldest is understood most widely."""
    checkpoint: str = "best"
    """best, last, last-good, a step, or last-5, the mean of the weights of the last five."""

    def __post_init__(self) -> None:
        if self.onnx and self.onnx.suffix.lower() != ".onnx":
            raise ValueError(f"onnx = {str(self.onnx)!r} must be a file that ends in .onnx")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        return {} if self.onnx else {"opset": "--onnx names no file"}


def export(argv: list[str]) -> None:
    """The command. Raises ValueError naming what transformers' layout cannot hold."""
    folder, rest = run_folder(argv, "decision.export")
    description = "Exports a trained agent in transformers' layout, or as an ONNX file."
    options = parse_fields(ExportConfig(), rest, prog="python -m decision.export DIR", description=description)
    if not (options.out or options.onnx):
        raise ValueError("name what to write: a new folder with --out, or a file with --onnx FILE.onnx")
    trained = load(folder, options.checkpoint)
    model, normaliser = trained.model, trained.summary.normaliser
    if options.out:
        export_pretrained(model, normaliser, options.out)
        print(f"wrote step {trained.step} of {folder} to {options.out}, for transformers' DecisionTransformerModel")
    if options.onnx:
        notes = {"environment": trained.config.env or trained.summary.environment, "step": str(trained.step)}
        difference = export_onnx(model, normaliser, options.onnx, notes=notes, opset=options.opset)
        size = options.onnx.stat().st_size / 2**20
        print(
            f"wrote step {trained.step} of {folder} to {options.onnx}: {size:.1f} MiB, operator set {options.opset}; "
            f"predictions differ from PyTorch's by at most {difference:.1e}"
        )


if __name__ == "__main__":
    main(lambda: export(sys.argv[1:]))
