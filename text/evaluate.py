"""How well a text model predicts the held-out text, all of it.

python -m text.evaluate DIR [--checkpoint best|last|last-good|STEP] [--json]
"""

import sys
import time
from dataclasses import dataclass
from typing import Literal

from core.checks import check_positive
from core.cli.arguments import parse_fields, run_folder
from core.cli.exits import main
from core.devices import autocast, device_kind
from core.messages import notice
from core.training.trained import EvaluateOptions, matches_data, print_json
from text.corpus.load import load_corpus
from text.tasks.language_modelling import NextTokenLoss, default_rows, evaluate
from text.trained import load


@dataclass(frozen=True)
class EvaluateConfig(EvaluateOptions):
    """Settings of `text.evaluate`."""

    data: str = ""
    """Evaluate on the held-out part of another text; default the run's own."""
    batch_size: int | None = None
    """Sequences evaluated at once; default 64, or fewer where their logits would take over 1 GiB."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic; auto chooses as training does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "batch_size")


def evaluate_run(argv: list[str]) -> None:
    """The command."""
    folder, rest = run_folder(argv, "text.evaluate")
    options = parse_fields(
        EvaluateConfig(),
        rest,
        prog="python -m text.evaluate DIR",
        description="Evaluates a run on the whole of its held-out text.",
    )
    started = time.monotonic()
    trained = load(folder, options.checkpoint, device_kind(options.device))
    config = trained.config
    corpus = load_corpus(options.data or config.data, trained.tokenizer, validation=config.validation)
    if not (options.data or matches_data(folder, corpus.sha256)):
        notice(f"{corpus.name} has changed since the run was trained on it")
    objective, rows = NextTokenLoss(trained.model), options.batch_size or default_rows(config.model)
    with autocast(options.precision, trained.device):
        figures = evaluate(objective, corpus, config.model.context, rows, device=trained.device)
    figures = {"step": trained.step} | figures | {"seconds": round(time.monotonic() - started, 2)}
    print(f"{corpus.name}: {corpus.val_size.tokens:,} held-out tokens, checkpoint of step {trained.step}")
    for name, value in figures.items():
        print(f"  {name:<20} {value:,.4f}" if isinstance(value, float) else f"  {name:<20} {value:,}")
    if options.json:
        print_json(figures)


if __name__ == "__main__":
    main(lambda: evaluate_run(sys.argv[1:]))
