"""How well a text model predicts a text: what was held out of a run's own, or another one.

python -m text.evaluate DIR [--data NAME_OR_PATH] [--part held-out|whole] [--json]
"""

import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from core.checks import check_positive
from core.cli.arguments import TEXT, parse_fields, run_folder
from core.cli.exits import main
from core.devices import autocast, device_kind
from core.messages import notice
from core.training.trained import EvaluateOptions, matches_data, print_json
from text.corpus.documents import Reading
from text.corpus.load import Corpus, load_corpus
from text.models.gpt import GPTConfig
from text.tasks.language_modelling import NextTokenLoss, default_rows, evaluate
from text.trained import Trained, load_any

LOGITS = 2**28  # of a window, at most: 1 GiB of float32
DESCRIPTION = (
    "Evaluates a text model. DIR is a run folder, or a public model: a folder in Hugging Face's layout, or hf:NAME. "
    "Bits per byte compare models on the same text, whatever their tokenizers."
)


@dataclass(frozen=True)
class EvaluateConfig(EvaluateOptions):
    """Settings of `text.evaluate`."""

    data: str | tuple[str, ...] = ""
    """Another text, named as for training; by default a run's own. A public model needs one."""
    part: Literal["auto", "held-out", "whole"] = "auto"
    """Of another text: all of it, or the last part only, as large as in training; auto is all for a public model."""
    column: str = ""
    """Column of tables that holds the text; default text, or the only one that holds any."""
    separator: str = field(default="", metadata={TEXT: True})
    """A text that stands between two documents of a file of another text."""
    skip_bad: bool = False
    """Leave out what cannot be read of another text rather than refuse it."""
    context: int | None = None
    """Tokens of a window; default the model's context, or less where the logits of a window would take over 1 GiB."""
    batch_size: int | None = None
    """Sequences evaluated at once; default 64, or fewer where their logits would take over 1 GiB."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic; auto chooses as training does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "batch_size", "context")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        names = () if self.data else ("part", "column", "separator", "skip_bad")
        return dict.fromkeys(names, "a run's own text is evaluated as it was held out; --data names another")


def evaluate_run(argv: list[str]) -> None:
    """The command."""
    name, rest = run_folder(argv, "text.evaluate")
    options = parse_fields(EvaluateConfig(), rest, prog="python -m text.evaluate DIR", description=DESCRIPTION)
    started = time.monotonic()
    if not (name.is_dir() or str(name).startswith("hf:")):
        raise ValueError(f"{name} is not a run folder, nor that of a public model; hf:NAME is one on the hub")
    trained = load_any(str(name), options.checkpoint, device_kind(options.device))
    corpus = load_text(trained, name, options)
    model = replace(trained.config.model, context=window(trained.config.model, corpus, options))
    objective, rows = NextTokenLoss(trained.model), options.batch_size or default_rows(model)
    with autocast(options.precision, trained.device):
        figures = evaluate(objective, corpus, model.context, rows, device=trained.device)
    figures = {"step": trained.step} | figures | {"seconds": round(time.monotonic() - started, 2)}
    report(corpus, trained, name, figures)
    if options.json:
        print_json(figures)


def load_text(trained: Trained, folder: Path, options: EvaluateConfig) -> Corpus:
    """The text to evaluate on. Raises ValueError where a public model is given none."""
    config, public = trained.config, not trained.step
    if not options.data:
        if public:
            raise ValueError(f"data is missing: {folder} is a public model, which has no text of its own; name one")
        corpus = load_corpus(config.data, trained.tokenizer, validation=config.held_out, reading=config.reading)
        if not matches_data(folder, corpus.sha256):
            notice(f"{corpus.name} has changed since the run was trained on it")
        return corpus
    whole = options.part == "whole" or (options.part == "auto" and public)
    reading = Reading(options.column, options.separator, "skip" if options.skip_bad else "refuse")
    return load_corpus(options.data, trained.tokenizer, validation=1.0 if whole else config.validation, reading=reading)


def window(model: GPTConfig, corpus: Corpus, options: EvaluateConfig) -> int:
    """Tokens of a window. Raises ValueError for more than the model reads."""
    if options.context and options.context > model.context:
        raise ValueError(f"context = {options.context} must be at most the model's {model.context}")
    context = options.context or min(model.context, max(1, LOGITS // model.vocab_size))
    return min(context, len(corpus.validation) - 1) if options.data else context


def report(corpus: Corpus, trained: Trained, name: Path, figures: dict[str, float]) -> None:
    """Prints the figures for people."""
    part = "held-out tokens" if len(corpus.train) else "tokens, all of it"
    model = f"checkpoint of step {trained.step}" if trained.step else str(name)
    print(f"{corpus.name}: {corpus.val_size.tokens:,} {part}, {model}")
    for key, value in figures.items():
        print(f"  {key:<20} {value:,.4f}" if isinstance(value, float) else f"  {key:<20} {value:,}")


if __name__ == "__main__":
    main(lambda: evaluate_run(sys.argv[1:]))
