"""Predicting the next token of a text."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.training.order import Batch, Share
from core.training.run import Run
from text.config import TrainConfig
from text.corpus.load import Corpus
from text.corpus.windows import IGNORED, TrainingWindows, validation_batches
from text.models.gpt import GPT, GPTConfig


class LanguageModelling:
    """Windows of a text, cross-entropy of each next token, the loss over the whole held-out part."""

    unit = "tokens"
    best = "val/loss"
    mode: Literal["min", "max"] = "min"

    def __init__(self, corpus: Corpus, config: TrainConfig):
        self.corpus, self.config = corpus, config
        self.windows = TrainingWindows(
            corpus.train, config.model.context, config.batch_size, config.seed, config.sampling
        )

    def summary(self) -> str:
        """One line about the text."""
        corpus = self.corpus
        return (
            f"{corpus.name}: {len(corpus.train):,} tokens to train on, {len(corpus.validation):,} held out, "
            f"a vocabulary of {corpus.tokenizer.vocab_size:,}"
        )

    def objective(self, model: GPT) -> nn.Module:
        """The model with its loss."""
        return NextTokenLoss(model)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step: pairs (ids, targets), each int64 (b, context)."""
        return [*self.windows.batch(step, *share)]

    def count(self, ids: Tensor, targets: Tensor) -> Tensor:
        """How many targets of a micro-batch count."""
        return real_targets(ids, targets)

    def evaluate(self, run: Run) -> dict[str, float]:
        """The whole held-out text, shared among the processes."""
        context, rows = self.config.model.context, self.config.eval_batch or rows_at_once(self.config.model)
        share = (run.share.rank, run.share.world)
        objective = run.state.objective
        return evaluate(objective, self.corpus, context, rows, device=run.device, share=share, reduce=run.total)

    def write_sample(self, run: Run) -> None:
        """What the model writes by now, after the first words of the held-out text: samples/step-*.txt."""
        if not (run.main and self.config.sample):
            return
        model, sampling = run.state.model, Sampling(temperature=0.8)
        assert isinstance(model, GPT)
        prompt = [int(token) for token in self.corpus.validation[:16]]
        [new] = complete(model, [prompt], self.config.sample, sampling, seeds=[self.config.seed], device=run.device)
        known = [token for token in prompt + new if token < self.corpus.tokenizer.vocab_size]  # the model's may be more
        write_sample(run.folder / "samples" / f"step-{run.step:08d}.txt", self.corpus.tokenizer.decode(known))


class NextTokenLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one."""

    def __init__(self, model: GPT):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy summed over the targets that are not IGNORED, in nats: 2 x (B, T) int64 -> () float32."""
        logits = self.model(ids).flatten(0, 1).float()  # (B T, V)
        return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")


def real_targets(ids: Tensor, targets: Tensor) -> Tensor:
    """How many targets of a micro-batch count: ()."""
    return (targets != IGNORED).sum()


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


def write_sample(path: Path, text: str) -> None:
    """Writes a file into a folder that is made if it is not there."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
