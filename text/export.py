"""Export a trained model: a run folder becomes a folder that other tools load.

python -m text.export DIR --out FOLDER [--family gpt2|llama|mistral|qwen2|qwen3]
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from core.cli.arguments import REQUIRED, parse_fields, run_folder
from core.cli.exits import main
from text.pretrained.folders import export_pretrained, nearest_family
from text.trained import load


@dataclass(frozen=True)
class ExportConfig:
    """Settings of `text.export`."""

    out: Path = field(default=Path(), metadata={REQUIRED: True})
    """The new folder, in Hugging Face's layout: config.json, model.safetensors, and the files of a bpe tokenizer."""
    family: str = ""
    """gpt2, llama, mistral, qwen2 or qwen3; default the one nearest to the model."""
    checkpoint: str = "best"
    """best, last, last-good, or a step."""


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
    tokenizer = trained.tokenizer if trained.tokenizer.kind == "bpe" else None
    export_pretrained(trained.model, options.out, family, tokenizer)
    print(f"wrote step {trained.step} of {folder} to {options.out} as {family}")
    if tokenizer is None:
        print(f"a public layout has no {trained.tokenizer.kind} tokenizer: it stays in {folder / 'tokenizer.json'}")


if __name__ == "__main__":
    main(lambda: export(sys.argv[1:]))
