"""Predicting the spans that are left out of a text."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.files.atomic import write_text
from core.training.config import with_steps
from core.training.order import Batch, Indices, Share
from core.training.run import Run
from text.config import DenoisingConfig, EvaluateConfig
from text.corpus.batches import evaluation_batches
from text.corpus.load import Corpus
from text.corpus.sequences import Ragged, framed, special_ids
from text.corpus.windows import IGNORED, TrainingWindows, row_numbers, tiles
from text.corruption.sentinels import sentinel_ids, with_sentinels
from text.corruption.spans import SpanCorruption
from text.models.encoder_decoder import EncoderDecoderConfig
from text.tasks.masked import BPE_SIZE
from text.tasks.task import TextTask, chosen_shape
from text.tasks.texts import load_text, part_name, read_text, save_text
from text.tokens.base import Tokenizer
from text.trained import Trained

SHOWN = 2  # windows in samples/
GREEDY = Sampling(temperature=0)


def build_corruption(tokenizer: Tokenizer, config: DenoisingConfig) -> SpanCorruption:
    """How spans of a text are left out for a model of this configuration."""
    ids = sentinel_ids(tokenizer, config.sentinels).ids
    return SpanCorruption(ids, config.model.eos, config.noise, config.span)


class Denoising(TextTask):
    """Windows of a text, cross-entropy of each token of the target, all windows of a batch being of equal length."""

    unit = "tokens"
    best = "val/loss"
    mode: Literal["min", "max"] = "min"
    use = "fill blanks with: python -m text.fill"

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, config: DenoisingConfig):
        self.corpus, self.tokenizer, self.config = corpus, tokenizer, config
        self.corruption = build_corruption(tokenizer, config)
        self.lengths = self.corruption.longest(config.model.context)
        self.windows = TrainingWindows(corpus.train, self.lengths.tokens, config.batch_size, config.seed)

    @classmethod
    def prepare(cls, config: DenoisingConfig) -> Self:
        corpus = read_text(config, "all", BPE_SIZE)
        tokenizer = with_sentinels(corpus.tokenizer, config.sentinels)
        shape = chosen_shape(config, sentinel_ids(tokenizer, config.sentinels).vocab_size)
        if not config.init_from:
            ids = special_ids(tokenizer)
            shape = replace(shape, start=ids.bos, eos=ids.eos, pad=ids.pad)
        task = cls(corpus, tokenizer, replace(config, model=shape))
        tiles(corpus.validation, task.lengths.tokens)  # refuses a text that is too short
        task.config = with_steps(task.config, task.windows.items)
        return task

    def summary(self) -> str:
        corpus, lengths = self.corpus, self.lengths
        return (
            f"{corpus.name}: {len(corpus.train):,} tokens to train on, {len(corpus.validation):,} held out, a "
            f"vocabulary of {self.config.model.vocab_size:,}; windows of {lengths.tokens} tokens, {lengths.noise} of "
            f"them left out in {lengths.spans} spans: sources of {lengths.source}, targets of {lengths.target}"
        )

    def save_data(self, folder: Path) -> None:
        save_text(folder, self.corpus, framed(self.tokenizer, "nothing"))

    def objective(self, model: nn.Module) -> nn.Module:
        return DenoisingLoss(model)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step, none of them padded: see `DenoisingLoss`."""
        windows = [ids for ids, _ in self.windows.batch(step, *share)]
        numbers = row_numbers(step, self.config.batch_size, share)
        return [self._corrupted(ids.numpy(), rows) for ids, rows in zip(windows, numbers, strict=True)]

    def _corrupted(self, windows: Indices, numbers: Indices) -> Batch:
        rows = zip(windows, numbers.tolist(), strict=True)
        both = [self.corruption.corrupt(window, self.config.seed, "spans", number) for window, number in rows]
        source, targets = (torch.from_numpy(np.stack(side)) for side in zip(*both, strict=True))
        return source, inputs_of(targets, self.config.model), targets

    @staticmethod
    def count(*batch: Tensor) -> Tensor:
        """How many target tokens of a micro-batch count: ()."""
        return (batch[2] != IGNORED).sum()

    def evaluate(self, run: Run) -> dict[str, float]:
        """The metrics of `evaluate` on the whole held-out text, shared among the processes."""
        held_out = HeldOut(self.corpus, self.corruption, self.config.model)
        rows, shared = self.config.eval_batch or 64, (run.share.rank, run.share.world)
        return evaluate(run.state.model, held_out, rows, device=run.device, share=shared, reduce=run.total)

    def show(self, run: Run) -> None:
        """Writes held-out windows to samples/step-*.txt: the source, the target, and what the model writes."""
        if not run.main:
            return
        held_out = HeldOut(self.corpus, self.corruption, self.config.model)
        texts = []
        for row in range(min(SHOWN, len(held_out.source))):
            source, target = held_out.source[row].tolist(), held_out.target[row].tolist()
            written = write_spans(run.state.model, source, len(target), run.device)
            texts += [named_text(self.tokenizer, ids, self.corruption.sentinels) for ids in (source, target, written)]
        write_text(run.folder / "samples" / f"step-{run.step:08d}.txt", "\n\n".join(texts) + "\n")

    @classmethod
    def evaluate_trained(cls, trained: Trained, folder: Path, options: EvaluateConfig) -> tuple[str, dict[str, float]]:
        config = trained.config
        assert isinstance(config, DenoisingConfig)
        corpus = load_text(trained, folder, options)
        held_out = HeldOut(corpus, build_corruption(trained.tokenizer, config), config.model)
        figures = evaluate(trained.model, held_out, options.batch_size or 64, device=trained.device)
        return part_name(corpus), figures


class DenoisingLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, source: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy summed over the targets, in nats: int64 (B, N), 2 x (B, T) -> () float32.

        inputs: the targets, one token behind, with the start token before them
        """
        return self.model.head.loss(self.model.features(source, None, inputs), targets)


class HeldOut:
    """The held-out text in windows of about equal length, of which the same spans are always left out."""

    def __init__(self, corpus: Corpus, corruption: SpanCorruption, shape: EncoderDecoderConfig):
        self.shape = shape
        windows = tiles(corpus.validation, min(corruption.longest(shape.context).tokens, len(corpus.validation)))
        both = [corruption.corrupt(windows[row].astype(np.int64), 0, "held out", row) for row in range(len(windows))]
        self.source, self.target = (Ragged.of(side) for side in zip(*both, strict=True))

    def batch(self, rows: Indices) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sources, their lengths, inputs and targets of some windows, see `DenoisingLoss`; targets may be IGNORED."""
        source, lengths = self.source.padded(rows, self.shape.pad)
        targets, _ = self.target.padded(rows, IGNORED)
        return source, lengths, inputs_of(targets, self.shape), targets


def inputs_of(targets: Tensor, shape: EncoderDecoderConfig) -> Tensor:
    """What the decoder reads: the start token, then all targets but the last: int64 (B, T) -> (B, T)."""
    before = targets[:, :-1]
    return F.pad(before.masked_fill(before == IGNORED, shape.pad), (1, 0), value=shape.start)


@torch.no_grad()
def evaluate(
    model: Any,
    held_out: HeldOut,
    batch_size: int,
    *,
    device: torch.device | str = "cpu",
    share: tuple[int, int] = (0, 1),
    reduce: Callable[[Tensor], Tensor] = lambda total: total,
) -> dict[str, float]:
    """How well the targets of the whole held-out text are predicted, those before each of them being given.

    share: (rank, number of processes); `reduce` then sums a tensor over all of them

    Returns val/loss (mean nats of a token of the target, sentinels among them), val/perplexity and val/accuracy.
    """
    total = torch.zeros(3, dtype=torch.float64)  # summed loss, correct, targets
    for rows in evaluation_batches(held_out.source.lengths, batch_size, rank=share[0], world=share[1]):
        source, lengths, inputs, targets = (tensor.to(device) for tensor in held_out.batch(rows))
        logits = model(source, lengths, inputs).float()  # (B, T, V)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
        correct, count = (logits.argmax(-1) == targets).sum(), (targets != IGNORED).sum()
        total += torch.tensor([float(loss), float(correct), float(count)], dtype=torch.float64)
    summed, correct, count = reduce(total).tolist()
    loss = summed / count
    return {"val/loss": loss, "val/perplexity": math.exp(min(loss, 700)), "val/accuracy": correct / count}


def write_spans(model: Any, source: list[int], most: int, device: torch.device) -> list[int]:
    """The target that the model finds most probable, token by token, for a source: at most so many tokens."""
    bound = model.bind(torch.tensor([source], device=device))
    shape = model.config
    [found] = complete(bound, [[shape.start]], min(most, shape.context - 1), GREEDY, stop=[shape.eos], device=device)
    return found


def named_text(tokenizer: Tokenizer, ids: list[int], marks: Any) -> str:
    """Tokens as text, with sentinels as <extra_id_0> and so on; what else is no text is left out."""
    names = {mark: f"<extra_id_{place}>" for place, mark in enumerate(marks)}
    special = {*special_ids(tokenizer)[:3], *tokenizer.stops}
    pieces = (
        names[token]
        if token in names
        else tokenizer.decode([token])
        if token < tokenizer.vocab_size and token not in special
        else ""
        for token in ids
    )
    return "".join(pieces)
