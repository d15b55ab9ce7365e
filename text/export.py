"""Export a trained model: a run folder becomes a folder that other tools load.

python -m text.export DIR --out FOLDER [--family NAME] [--precision fp32|bf16]
python -m text.export DIR --out FOLDER --adapter apart [--base NAME]

What adapters learned is added to the weights, or written by itself in the layout of peft.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from core.checks import check_choices
from core.cli.arguments import REQUIRED, parse_fields, run_folder
from core.cli.exits import main
from text.conversations.template import FILE as TEMPLATE
from text.conversations.template import saved_template
from text.pretrained.families import nearest_family
from text.pretrained.folders import export_adapter, export_pretrained, pretrained_folder, read_family
from text.pretrained.start import is_run
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
    adapter: Literal["merged", "apart"] = "merged"
    """What a run's adapter learned: added to the weights, or by itself, as peft loads it."""
    base: str = ""
    """apart: the public model that peft adds it to, a folder or a name on the hub; default that of init_from."""
    checkpoint: str = "best"
    """best, last, last-good, a step, or last-5, the mean of the weights of the last five."""

    def __post_init__(self) -> None:
        check_choices(self)

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        if self.adapter == "apart":
            return {"precision": "adapters are written in float32"}
        return {"base": "the weights are written whole"}


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
    if options.adapter == "apart":
        return export_apart(folder, options)
    trained = load(folder, options.checkpoint)
    family = options.family or nearest_family(trained.config.model)
    template = saved_template(folder, trained.tokenizer).source if (folder / TEMPLATE).is_file() else ""
    export_pretrained(trained.model, options.out, family, trained.tokenizer, options.precision, template)
    print(f"wrote step {trained.step} of {folder} to {options.out} as {family}")


def export_apart(folder: Path, options: ExportConfig) -> None:
    """Writes what the adapter of a run learned. Raises ValueError for a run without one, or on no public model."""
    trained = load(folder, options.checkpoint, adapters="apart")
    config = trained.config
    if config.adapter.kind == "none":
        raise ValueError(f"adapter = 'apart': {folder} has no adapter, it trained every weight")
    base = options.base or config.init_from
    if is_run(Path(base).expanduser()):
        raise ValueError(f"{base} is a run, which peft does not load: export it, and name that folder with --base")
    family = options.family or read_family(pretrained_folder(base)).model_type
    export_adapter(trained.model, config.adapter, options.out, base, family)
    print(f"wrote the adapter of step {trained.step} of {folder} to {options.out}, for {base}")


if __name__ == "__main__":
    main(lambda: export(sys.argv[1:]))
