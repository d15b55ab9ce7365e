"""Translating the sentences of one language into another."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.files.atomic import write_text
from core.training.order import Batch, Indices, Share
from core.training.run import Run
from core.training.trained import save_data_record
from text.config import EvaluateConfig, TranslationConfig
from text.corpus.batches import LengthBatches, evaluation_batches
from text.corpus.sequences import Ragged, choose_tokenizer, encode_all, special_ids
from text.corpus.windows import IGNORED
from text.examples.pairs import Pairs, ParallelText
from text.reports.bleu import by_length, cased, lower_cased
from text.tasks.paired import test_pairs, training_pairs
from text.tasks.task import TextTask, chosen_shape, chosen_tokenizer, in_steps
from text.tokens.base import Tokenizer
from text.trained import Trained
from text.using.translator import Translator

SHOWN = 10  # translations in samples/
EPOCH = 1 << 30  # batches that are sorted by length together: all


class Translation(TextTask):
    """Pairs of sentences, cross-entropy of each token of the target, BLEU of the validation sentences."""

    unit = "tokens"
    best = "val/bleu"
    mode: Literal["min", "max"] = "max"
    use = "translate with: python -m text.translate"

    def __init__(self, pairs: ParallelText, tokenizer: Tokenizer, config: TranslationConfig):
        self.pairs, self.tokenizer, self.config = pairs, tokenizer, config
        self.ids = special_ids(tokenizer)
        self.train, self.held_out = (self._encoded(part, name) for part, name in self._parts())
        self.widths = common_widths(self.train, config.model.context)
        lengths = np.stack((self.widths, self.widths), axis=1)  # (n, 2)
        self.batches = LengthBatches(lengths, config.batch_size, "tokens", config.seed, sorted_together=EPOCH, noise=0)

    @classmethod
    def prepare(cls, config: TranslationConfig) -> Self:
        pairs = training_pairs(config)
        choice = chosen_tokenizer(config, config.default_tokenizer)
        texts = [*pairs.train.source, *pairs.train.target]
        tokenizer = choose_tokenizer(choice, texts, pairs.train.fingerprint, config.bpe_size or 8000)
        ids = special_ids(tokenizer)
        shape = chosen_shape(config, ids.vocab_size)
        if not config.init_from:
            shape = replace(shape, start=ids.bos, eos=ids.eos, pad=ids.pad)
        config = replace(config, model=shape, source=pairs.source, target=pairs.target)
        task = cls(pairs, tokenizer, config)
        task.config = in_steps(task.config, task.batches)
        return task

    def summary(self) -> str:
        pairs, (source, target) = self.pairs, self.train
        sides = f"{pairs.source or 'source'} to {pairs.target or 'target'}"
        return (
            f"{pairs.name}, {sides}: {len(source):,} pairs of {len(source.values):,} and {len(target.values):,} tokens "
            f"to train on, {len(pairs.validation):,} held out, a vocabulary of {self.ids.vocab_size:,}"
        )

    def save_data(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        sides = {"source": self.pairs.source, "target": self.pairs.target}
        sizes = {"train": len(self.pairs.train), "validation": len(self.pairs.validation)}
        save_data_record(folder, self.pairs.name, self.pairs.fingerprint, **sides, **sizes)

    def objective(self, model: nn.Module) -> nn.Module:
        return TranslationLoss(model, self.config.label_smoothing)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step: (source, lengths, inputs, targets), see `TranslationLoss`."""
        width = int(self.widths[self.batches.batch(step)].max())
        return [self._batch(self.train, rows, width) for rows in self.batches.shares(step, share)]

    @staticmethod
    def count(*batch: Tensor) -> Tensor:
        """How many target tokens of a micro-batch count: ()."""
        return (batch[-1] != IGNORED).sum()

    def evaluate(self, run: Run) -> dict[str, float]:
        """Loss and perplexity of each target token, without smoothing, and BLEU of translations, all sentences."""
        rows, share = self.config.eval_batch or 64, run.share
        batches = evaluation_batches(self.held_out[1].lengths, rows, rank=share.rank, world=share.world)
        total = torch.zeros(2, dtype=torch.float64)  # summed loss, targets
        for batch in batches:
            tensors = [tensor.to(run.device) for tensor in self._batch(self.held_out, batch)]
            loss = run.state.objective(*tensors)
            total += torch.tensor([float(loss), float(self.count(*tensors))], dtype=torch.float64)
        summed, count = run.total(total).tolist()
        loss = summed / count
        translator = Translator(run.state.model, self.tokenizer, run.device, rows=rows, beams=self.config.eval_beams)
        self.hypotheses = [best.text for best, *_ in translator.translate(self.held_out[0])]
        bleu = lower_cased(self.hypotheses, self.pairs.validation.target, self.pairs.target).score
        return {"val/loss": loss, "val/perplexity": math.exp(min(loss, 700)), "val/bleu": bleu}

    def show(self, run: Run) -> None:
        """Writes some validation sentences and their translations to samples/step-*.txt."""
        if not run.main:
            return
        held_out = self.pairs.validation
        lines = zip(held_out.source[:SHOWN], self.hypotheses, held_out.target, strict=False)
        text = "\n".join(f"{source}\n  {found}\n  ({true})\n" for source, found, true in lines)
        write_text(run.folder / "samples" / f"step-{run.step:08d}.txt", text)

    @classmethod
    def evaluate_trained(cls, trained: Trained, folder: Path, options: EvaluateConfig) -> tuple[str, dict[str, float]]:
        config = trained.config
        assert isinstance(config, TranslationConfig)
        tests, names = test_pairs(config, options)
        translator = Translator(trained.model, trained.tokenizer, trained.device, beams=options.beams)
        figures: dict[str, float] = {}
        for name, pairs in tests.items():
            figures |= {f"{name}/{key}": value for key, value in scores(translator, pairs, names[1]).items()}
        how = f"beams of {options.beams}" if options.beams > 1 else "greedily"
        return f"{', '.join(tests)}: {names[0]} to {names[1]}, translated {how}", figures

    def _parts(self) -> list[tuple[Pairs, str]]:
        return [(self.pairs.train, "training pair"), (self.pairs.validation, "validation pair")]

    def _encoded(self, pairs: Pairs, name: str) -> tuple[Ragged, Ragged]:
        """Sources and targets as tokens, each with the end token behind it; the start token comes with the batch."""
        config, after = self.config, [self.ids.eos]
        limits: dict[str, Any] = {"longest": config.model.context, "too_long": config.too_long, "after": after}
        source = encode_all(self.tokenizer, pairs.source, name=f"source of {name}", **limits)
        return source, encode_all(self.tokenizer, pairs.target, name=f"target of {name}", **limits)

    def _batch(self, sides: tuple[Ragged, Ragged], rows: Indices, width: int = 1) -> Batch:
        source, lengths = sides[0].padded(rows, self.ids.pad, width)
        targets, _ = sides[1].padded(rows, IGNORED, width)
        start = torch.full((len(targets), 1), self.ids.bos)
        inputs = torch.cat((start, targets[:, :-1].masked_fill(targets[:, :-1] == IGNORED, self.ids.pad)), dim=1)
        return source, lengths, inputs, targets


def common_widths(sides: tuple[Ragged, Ragged], context: int) -> NDArray[np.int64]:
    """What both sides of each pair are padded to in training, a multiple of 4: int64 (n,).

    Batches then have few shapes: libraries prepare their matrix products anew for each.
    """
    longest = np.maximum(sides[0].lengths, sides[1].lengths)
    return np.minimum(-(-longest // 4) * 4, context)


class TranslationLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one."""

    def __init__(self, model: Any, smoothing: float):
        super().__init__()
        self.model, self.smoothing = model, smoothing

    def forward(self, source: Tensor, lengths: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy summed over the targets that are not IGNORED, in nats, smoothed in training: () float32.

        source: int64 (B, N), the first lengths[b] real; inputs, targets: int64 (B, T), targets one token ahead
        """
        smoothing = self.smoothing if self.training else 0.0
        return self.model.head.loss(self.model.features(source, lengths, inputs), targets, smoothing)


def scores(translator: Translator, pairs: Pairs, language: str) -> dict[str, float]:
    """BLEU of translations in both conventions, and by the length of the source."""
    source = encode_all(translator.tokenizer, pairs.source, after=[translator.ids.eos], name="source")
    hypotheses: Sequence[str] = [best.text for best, *_ in translator.translate(source)]
    modern, papers = cased(hypotheses, pairs.target), lower_cased(hypotheses, pairs.target, language)
    print(f"bleu_cased: {modern.signature}\nbleu_lower_cased: {papers.signature}")
    lengths = by_length(pairs.source, hypotheses, pairs.target)
    return {"bleu_cased": modern.score, "bleu_lower_cased": papers.score} | {
        f"bleu_cased_{name}": value for name, value in lengths.items()
    }
