"""Export a trained model: a run folder becomes a folder that other tools load.

python -m text.export DIR --out FOLDER [--family NAME] [--precision fp32|bf16]
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from core.checks import check_choices
from core.cli.arguments import REQUIRED, parse_fields, run_folder
from core.cli.exits import main
from text.pretrained.families import nearest_family
from text.pretrained.folders import export_pretrained
from text.trained import load


@dataclass(frozen=True)
class ExportConfig:
    """Settings of `text.export`."""

    out: Path = field(default=Path(), metadata={REQUIRED: True})
    """The new folder, in Hugging Face's layout: config.json, model.safetensors, and the files of the tokenizer."""
    family: str = ""
    """gpt2, llama, mistral, qwen2, qwen3, smollm3, olmo2, olmo3 or nanochat; bert, roberta, distilbert or modernbert;
    marian or t5; default the one nearest to the model."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the weights written."""
    checkpoint: str = "best"
    """best, last, last-good, a step, or last-5, the mean of the weights of the last five."""

    def __post_init__(self) -> None:
        check_choices(self)


def export(argv: list[str]) -> None:
    """The command. Raises ValueError naming what the family cannot express."""
    folder, rest = run_folder(argv, "text.export")
    options = parse_fields(
        ExportConfig(),
        rest,
        prog="python -m text.export DIR",
        description="Exports a trained model in a public layout.",
    )
    if options.out == Path():
        raise ValueError("out is missing: name the new folder with --out")
    trained = load(folder, options.checkpoint)
    family = options.family or nearest_family(trained.config.model)
    export_pretrained(trained.model, options.out, family, trained.tokenizer, options.precision)
    print(f"wrote step {trained.step} of {folder} to {options.out} as {family}")


if __name__ == "__main__":
    main(lambda: export(sys.argv[1:]))
