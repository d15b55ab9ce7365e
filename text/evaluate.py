"""How good a text model is on what was held out of a run's own data, or on other data.

python -m text.evaluate DIR [--data NAME_OR_PATH] [--part held-out|whole] [--json]
"""

import sys
import time

from core.cli.arguments import parse_fields, run_folder
from core.cli.exits import main
from core.devices import autocast, device_kind
from core.training.trained import print_json
from text.config import EvaluateConfig
from text.tasks.by_name import TASKS
from text.trained import load_any

DESCRIPTION = (
    "Evaluates a text model. DIR is a run folder, or a public model: a folder in Hugging Face's layout, or hf:NAME. "
    "Bits per byte compare language models on the same text, whatever their tokenizers."
)


def evaluate_run(argv: list[str]) -> None:
    """The command."""
    name, rest = run_folder(argv, "text.evaluate")
    options = parse_fields(EvaluateConfig(), rest, prog="python -m text.evaluate DIR", description=DESCRIPTION)
    started = time.monotonic()
    if not (name.is_dir() or str(name).startswith("hf:")):
        raise ValueError(f"{name} is not a run folder, nor that of a public model; hf:NAME is one on the hub")
    trained = load_any(str(name), options.checkpoint, device_kind(options.device))
    with autocast(options.precision, trained.device):
        about, figures = TASKS[trained.config.task].evaluate_trained(trained, name, options)
    figures = {"step": trained.step} | figures | {"seconds": round(time.monotonic() - started, 2)}
    print(f"{about}, {f'checkpoint of step {trained.step}' if trained.step else name}")
    for key, value in figures.items():
        print(f"  {key:<20} {value:,.4f}" if isinstance(value, float) else f"  {key:<20} {value:,}")
    if options.json:
        print_json(figures)


if __name__ == "__main__":
    main(lambda: evaluate_run(sys.argv[1:]))
