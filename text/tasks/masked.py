"""Predicting the hidden tokens of a text."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.files.atomic import write_text
from core.training.config import with_steps
from core.training.order import Batch, Indices, Share
from core.training.run import Run
from text.config import EvaluateConfig, MaskedConfig
from text.corpus.batches import evaluation_batches
from text.corpus.load import Corpus
from text.corpus.sequences import Ragged, framed
from text.corpus.windows import TrainingWindows, row_numbers, tiles
from text.corruption.masking import Masked, build_masking, masked_ids
from text.models.encoder import MaskedLM
from text.tasks.task import TextTask, chosen_shape
from text.tasks.texts import load_text, part_name, read_text, save_text
from text.tokens.base import Tokenizer
from text.trained import Trained
from text.using.filler import check_mask

FRAME = 2  # tokens of a row that begin and end it
EVALUATED = 0.15  # of the held-out tokens are hidden, whatever training hides, so that runs can be compared
BPE_SIZE = 8192
SHOWN = 3  # windows in samples/


class MaskedLanguageModelling(TextTask):
    """Windows of a text, cross-entropy of the tokens that are hidden in them."""

    unit = "tokens"
    best = "val/loss"
    mode: Literal["min", "max"] = "min"
    use = "fill blanks with: python -m text.fill"

    def __init__(self, corpus: Corpus, config: MaskedConfig):
        self.corpus, self.config, self.ids = corpus, config, masked_ids(corpus.tokenizer)
        self.masking = build_masking(corpus.tokenizer, config.masked, config.replacement)
        inner = config.model.context - FRAME
        self.windows = TrainingWindows(corpus.train, inner, config.batch_size, config.seed)

    @classmethod
    def prepare(cls, config: MaskedConfig) -> Self:
        corpus = read_text(config, "all", BPE_SIZE)
        config = replace(config, model=chosen_shape(config, masked_ids(corpus.tokenizer).vocab_size))
        if config.model.context <= FRAME:
            raise ValueError(f"model.context = {config.model.context} must be above {FRAME}, the ends of a window")
        tiles(corpus.validation, config.model.context - FRAME)  # refuses a text that is too short
        items = TrainingWindows(corpus.train, config.model.context - FRAME, config.batch_size).items
        return cls(corpus, with_steps(config, items))

    def summary(self) -> str:
        corpus = self.corpus
        return (
            f"{corpus.name}: {len(corpus.train):,} tokens to train on, {len(corpus.validation):,} held out, a "
            f"vocabulary of {self.ids.vocab_size:,}; {self.config.masked:.0%} of the tokens are hidden"
        )

    def save_data(self, folder: Path) -> None:
        save_text(folder, self.corpus, framed(self.corpus.tokenizer, "bos"))

    def objective(self, model: MaskedLM) -> nn.Module:
        return MaskedLoss(model)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step, see `text.corruption.masking.Masked`: ids are int64 (b, context)."""
        windows = [ids for ids, _ in self.windows.batch(step, *share)]
        numbers = row_numbers(step, self.config.batch_size, share)
        return [self._hidden(ids.numpy(), rows) for ids, rows in zip(windows, numbers, strict=True)]

    def _hidden(self, windows: Indices, numbers: Indices) -> Batch:
        edges = ((0, 0), (1, 1))
        rows = np.pad(windows, edges, constant_values=((0, 0), (self.ids.bos, self.ids.eos)))  # (b, context)
        return tuple(self.masking.hide(rows, self.config.seed, "masking", numbers))

    @staticmethod
    def count(*batch: Tensor) -> int:
        """How many tokens of a micro-batch are hidden."""
        return len(batch[-1])

    def evaluate(self, run: Run) -> dict[str, float]:
        """The metrics of `evaluate` on the whole held-out text, shared among the processes."""
        rows, shared = self.config.eval_batch or 64, (run.share.rank, run.share.world)
        model, context = run.state.model, self.config.model.context
        return evaluate(model, self.corpus, context, rows, device=run.device, share=shared, reduce=run.total)

    def show(self, run: Run) -> None:
        """Writes held-out windows to samples/step-*.txt, each hidden token with what the model takes it for."""
        if not run.main:
            return
        windows = HeldOut(self.corpus, self.config.model.context)
        masked, lengths = windows.batch(np.arange(min(SHOWN, len(windows.rows))))
        logits = run.state.model(*(t.to(run.device) for t in (masked.ids, lengths, masked.places)))
        text = marked_text(self.corpus.tokenizer, masked, logits.argmax(-1))
        write_text(run.folder / "samples" / f"step-{run.step:08d}.txt", text)

    @classmethod
    def evaluate_trained(cls, trained: Trained, folder: Path, options: EvaluateConfig) -> tuple[str, dict[str, float]]:
        check_mask(trained.tokenizer, trained.config.model.vocab_size)
        corpus, context = load_text(trained, folder, options), trained.config.model.context
        if options.context and options.context > context:
            raise ValueError(f"context = {options.context} must be at most the model's {context}")
        context = min(options.context or context, len(corpus.validation) + FRAME)
        figures = evaluate(trained.model, corpus, context, options.batch_size or 64, device=trained.device)
        return part_name(corpus), figures


class MaskedLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one."""

    def __init__(self, model: MaskedLM):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy summed over the hidden tokens, in nats: int64 (B, T), 2 x (N,) -> () float32."""
        return self.model.head.loss(self.model.features_at(places, ids), targets)


class HeldOut:
    """The held-out text in windows, in which the same tokens are always hidden, by the mask alone."""

    def __init__(self, corpus: Corpus, context: int):
        self.ids = masked_ids(corpus.tokenizer)
        self.masking = build_masking(corpus.tokenizer, EVALUATED, "mask")
        self.rows: Ragged = tiles(corpus.validation, context - FRAME).wrapped([self.ids.bos], [self.ids.eos])

    def batch(self, rows: Indices) -> tuple[Masked, Tensor]:
        """Windows, and their lengths, int64 (b,)."""
        ids, lengths = self.rows.padded(rows, self.ids.pad)
        return self.masking.hide(ids.numpy(), 0, "held out", np.maximum(rows, 0)), lengths


@torch.no_grad()
def evaluate(
    model: Any,
    corpus: Corpus,
    context: int,
    batch_size: int,
    *,
    device: torch.device | str = "cpu",
    share: tuple[int, int] = (0, 1),
    reduce: Callable[[Tensor], Tensor] = lambda total: total,
) -> dict[str, float]:
    """How well hidden tokens of the whole held-out text are predicted, 15 % of them, always the same.

    model: (ids, lengths, places) -> scores, a `MaskedLM` in evaluation mode
    share: (rank, number of processes); `reduce` then sums a tensor over all of them

    Returns val/loss (mean nats of a hidden token), val/pseudo_perplexity, its exponential, and val/accuracy.
    """
    held_out = HeldOut(corpus, context)
    total = torch.zeros(3, dtype=torch.float64)  # summed loss, correct, hidden
    for rows in evaluation_batches(held_out.rows.lengths, batch_size, rank=share[0], world=share[1]):
        masked, lengths = held_out.batch(rows)
        ids, places, targets = (tensor.to(device) for tensor in masked)
        logits = model(ids, lengths.to(device), places).float()  # (N, V)
        loss = F.cross_entropy(logits, targets, reduction="sum")
        correct = (logits.argmax(-1) == targets).sum()
        total += torch.tensor([float(loss), float(correct), len(targets)], dtype=torch.float64)
    summed, correct, count = reduce(total).tolist()
    loss = summed / count
    return {"val/loss": loss, "val/pseudo_perplexity": math.exp(min(loss, 700)), "val/accuracy": correct / count}


def marked_text(tokenizer: Tokenizer, masked: Masked, found: Tensor) -> str:
    """Rows as text, each hidden token as [what it was|what was found, int64 (N,)]; special tokens are left out."""
    special = {*masked_ids(tokenizer)[:4]}

    def text(token: int) -> str:
        return "" if token in special or token >= tokenizer.vocab_size else tokenizer.decode([token])

    pieces = [[text(token) for token in row] for row in masked.ids.tolist()]
    width = masked.ids.shape[1]
    for place, true, guess in zip(masked.places.tolist(), masked.targets.tolist(), found.tolist(), strict=True):
        pieces[place // width][place % width] = f"[{text(true)}|{text(guess)}]"
    return "".join("".join(row) + "\n\n" for row in pieces)
