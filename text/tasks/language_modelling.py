"""Predicting the next token of a text."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.files.atomic import write_text
from core.training.config import with_steps
from core.training.order import Batch, Share
from core.training.run import Run
from text.config import EvaluateConfig, LanguageModellingConfig
from text.corpus.load import Corpus
from text.corpus.windows import IGNORED, TrainingWindows, validation_batches
from text.models.gpt import GPT, GPTConfig
from text.models.recurrent import RecurrentConfig
from text.tasks.task import TextTask, chosen_shape
from text.tasks.texts import load_text, part_name, read_text, save_text
from text.trained import Trained

LOGITS = 2**28  # of a window, at most: 1 GiB of float32
PROMPT = 16  # tokens of the held-out text that a sample continues


class LanguageModelling(TextTask):
    """Windows of a text, cross-entropy of each next token, the loss over the whole held-out part."""

    unit = "tokens"
    best = "val/loss"
    mode: Literal["min", "max"] = "min"
    use = "generate text with: python -m text.sample"  # the run folder follows

    def __init__(self, corpus: Corpus, config: LanguageModellingConfig):
        self.corpus, self.config = corpus, config
        context, order = config.model.context, config.window_order
        self.windows = TrainingWindows(corpus.train, context, config.batch_size, config.seed, order)

    @classmethod
    def prepare(cls, config: LanguageModellingConfig) -> Self:
        corpus = read_text(config)
        config = replace(config, model=chosen_shape(config, corpus.tokenizer.vocab_size))
        validation_batches(corpus.validation, config.model.context, batch_size=1)  # refuses a text that is too short
        items = TrainingWindows(corpus.train, config.model.context, config.batch_size).items
        return cls(corpus, with_steps(config, items))

    @classmethod
    def evaluate_trained(cls, trained: Trained, folder: Path, options: EvaluateConfig) -> tuple[str, dict[str, float]]:
        corpus = load_text(trained, folder, options)
        model = replace(trained.config.model, context=window(trained.config.model, corpus, options))
        rows = options.batch_size or default_rows(model)
        figures = evaluate(NextTokenLoss(trained.model), corpus, model.context, rows, device=trained.device)
        return part_name(corpus), figures

    def summary(self) -> str:
        corpus = self.corpus
        return (
            f"{corpus.name}: {len(corpus.train):,} tokens to train on, {len(corpus.validation):,} held out, "
            f"a vocabulary of {corpus.tokenizer.vocab_size:,}"
        )

    def save_data(self, folder: Path) -> None:
        """Keeps the tokenizer in a run folder, and what the text was."""
        save_text(folder, self.corpus, self.corpus.tokenizer)

    def objective(self, model: GPT) -> nn.Module:
        return NextTokenLoss(model)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step: pairs (ids, targets), each int64 (b, context)."""
        return [*self.windows.batch(step, *share)]

    @staticmethod
    def count(*batch: Tensor) -> Tensor:
        """How many targets of a micro-batch count: ()."""
        _, targets = batch
        return (targets != IGNORED).sum()

    def evaluate(self, run: Run) -> dict[str, float]:
        """The metrics of `evaluate` on the whole held-out text, shared among the processes."""
        model = self.config.model
        rows, share = self.config.eval_batch or default_rows(model), (run.share.rank, run.share.world)
        objective, context = run.state.objective, model.context
        return evaluate(objective, self.corpus, context, rows, device=run.device, share=share, reduce=run.total)

    def show(self, run: Run) -> None:
        """Continues the beginning of the held-out text, in samples/step-*.txt."""
        if not (run.main and self.config.sample):
            return
        model: Any = run.state.model
        tokenizer = self.corpus.tokenizer
        prompt, sampling = self.corpus.validation[:PROMPT].tolist(), Sampling(temperature=0.8)
        [new] = complete(model, [prompt], self.config.sample, sampling, seeds=[self.config.seed], device=run.device)
        ids = [token for token in prompt + new if token < tokenizer.vocab_size]  # the model's vocabulary may be larger
        write_text(run.folder / "samples" / f"step-{run.step:08d}.txt", tokenizer.decode(ids))


class NextTokenLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy summed over the targets that are not IGNORED, in nats: 2 x (B, T) int64 -> () float32."""
        return self.model.head.loss(self.model.features(ids), targets)


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


def default_rows(model: GPTConfig | RecurrentConfig) -> int:
    """How many windows to evaluate at once: 64, or fewer, so that their logits take no more than 1 GiB of float32."""
    return max(1, min(64, 2**28 // (model.context * model.vocab_size)))


def window(model: GPTConfig, corpus: Corpus, options: EvaluateConfig) -> int:
    """Tokens of a window. Raises ValueError for more than the model reads."""
    if options.context and options.context > model.context:
        raise ValueError(f"context = {options.context} must be at most the model's {model.context}")
    context = options.context or min(model.context, max(1, LOGITS // model.vocab_size))
    return min(context, len(corpus.validation) - 1) if options.data else context
