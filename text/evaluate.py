"""How well a text model predicts the held-out text, all of it.

python -m text.evaluate DIR [--checkpoint best|last|last-good|STEP] [--json]
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from core.checks import check_positive
from core.cli.arguments import main, parse_fields, run_folder
from core.training.devices import autocast, device_kind
from text.corpus.windows import Corpus, load_corpus, validation_batches
from text.models.gpt import IGNORED, GPTConfig, NextTokenLoss
from text.trained import load, matches_data


@torch.no_grad()
def evaluate(
    objective: nn.Module,
    corpus: Corpus,
    context: int,
    batch_size: int,
    *,
    device: torch.device | str = "cpu",
    share: tuple[int, int] = (0, 1),
    reduce: Callable[[Tensor], Tensor] = lambda total: total,
) -> dict[str, float]:
    """Mean cross-entropy over every held-out token, once each, in windows of `context` that do not overlap.

    objective: (ids, targets) -> summed loss in nats, in evaluation mode
    share:     (rank, number of processes); `reduce` then sums a tensor over all of them

    Returns val/loss (nats per token), val/perplexity, val/bits_per_char and val/bits_per_byte.
    """
    total = torch.zeros(2, dtype=torch.float64)  # summed loss, targets
    for ids, targets in validation_batches(corpus.validation, context, batch_size, *share):
        loss = objective(ids.to(device), targets.to(device))
        total += torch.tensor([float(loss), float((targets != IGNORED).sum())], dtype=torch.float64)
    summed, count = reduce(total).tolist()
    loss = summed / count
    figures = {"loss": loss, "perplexity": math.exp(min(loss, 700))} | corpus.bits(loss)
    return {f"val/{name}": value for name, value in figures.items()}


def rows_at_once(model: GPTConfig) -> int:
    """How many windows to evaluate at once: 64, or fewer, so that their logits take no more than 1 GiB of float32."""
    return max(1, min(64, 2**28 // (model.context * model.vocab_size)))


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of `text.evaluate`."""

    checkpoint: str = "best"
    """best, last, last-good, or a step."""
    data: str = ""
    """Another text to evaluate on, the held-out part of it; default the run's own."""
    batch_size: int | None = None
    """Sequences at once; default 64, or fewer where their logits would take over 1 GiB."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic; auto is what training takes by itself."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to evaluate."""
    json: bool = False
    """End with one line that is a JSON object."""

    def __post_init__(self) -> None:
        check_positive(self, "batch_size")


def evaluate_run(argv: list[str]) -> None:
    """The command."""
    folder, rest = run_folder(argv, "text.evaluate")
    options = parse_fields(
        EvaluateConfig,
        EvaluateConfig(),
        rest,
        prog="python -m text.evaluate DIR",
        description="Evaluates a run on the whole of its held-out text.",
    )
    started = time.monotonic()
    trained = load(folder, options.checkpoint, device_kind(options.device))
    config = trained.config
    corpus = load_corpus(options.data or config.data, trained.tokenizer, validation=config.validation)
    if not (options.data or matches_data(folder, corpus)):
        print(f"notice: {corpus.name} is not the text any more that the run was trained on", file=sys.stderr)
    objective, rows = NextTokenLoss(trained.model), options.batch_size or rows_at_once(config.model)
    with autocast(options.precision, trained.device):
        figures = evaluate(objective, corpus, config.model.context, rows, device=trained.device)
    figures = {"step": trained.step} | figures | {"seconds": round(time.monotonic() - started, 2)}
    print(f"{corpus.name}: {corpus.val_size.tokens:,} held-out tokens, checkpoint of step {trained.step}")
    for name, value in figures.items():
        print(f"  {name:<20} {value:,.4f}" if isinstance(value, float) else f"  {name:<20} {value:,}")
    if options.json:
        print(json.dumps({name: value if math.isfinite(value) else None for name, value in figures.items()}))


if __name__ == "__main__":
    main(lambda: evaluate_run(sys.argv[1:]))
