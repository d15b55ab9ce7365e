"""Giving each word of a sentence, or each residue of a protein, one of several tags."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from core.files.atomic import write_text
from core.training.answers import Answers
from core.training.order import Batch, Indices, Share
from core.training.run import Run
from core.training.trained import save_data_record
from text.config import EvaluateConfig
from text.corpus.batches import LengthBatches
from text.corpus.sequences import Ragged, choose_tokenizer, special_ids
from text.corpus.windows import IGNORED
from text.examples.tagged import Tagged, TaggedText, load_tagged, read_tagged
from text.reports.labels import report
from text.reports.span_f1 import SpanCounts, mark_spans
from text.tasks.labelling.configs import TaggingConfig
from text.tasks.labelling.labels import (
    LabelLoss,
    TokenDropout,
    compacted,
    figures,
    gathered,
    labelled_shape,
    refuse_others,
    spared,
)
from text.tasks.task import TextTask, check_same_data, chosen_shape, chosen_tokenizer, in_steps
from text.tokens.affixes import AffixTokenizer
from text.tokens.base import CharTokenizer, Tokenizer
from text.trained import Trained
from text.using.word_tagger import BETWEEN, Words, WordTagger, encode_words, padded

AROUND = 4  # words shown on both sides of an error


class Part:
    """Tagged sentences as tokens. tags: int32, IGNORED where none counts, or where its word was cut off."""

    def __init__(self, rows: Tagged, encoded: Words):
        self.rows, self.encoded = rows, encoded
        tags = zip(rows.tags, encoded.read, strict=True)
        self.tags = Ragged.of([np.where(np.arange(len(row)) < read, row, IGNORED) for row, read in tags])
        self.counted = np.flatnonzero(self.tags.values != IGNORED)

    def answers(self, tagger: WordTagger, run: Run | None = None) -> Answers:
        """The answers to all words whose tag counts, in order."""
        share = None if run is None else run.share
        every = gathered(tagger.answers(self.encoded, self.tags, share), len(self.tags.values), run)
        return every.take(torch.from_numpy(self.counted))

    def figures(self, answers: Answers, names: Sequence[str]) -> dict[str, float]:
        """Those of words, and of spans where tags mark them."""
        found = figures(answers, len(names))
        if mark_spans(names):
            true, answered = (self._sentences(labels, names) for labels in (answers.truth, answers.answer))
            found |= SpanCounts.of(true, answered).figures()
        return found

    def shown(self, number: int) -> str:
        """One of the words that count, with those around it."""
        place = int(self.counted[number])
        row = int(np.searchsorted(self.tags.ends, place, side="right"))
        inside, words = place - int(self.tags.starts[row]), self.rows.words[row]
        before, after = words[max(0, inside - AROUND) : inside], words[inside + 1 : inside + 1 + AROUND]
        return " ".join((*before, f"[{words[inside]}]", *after))

    def _sentences(self, labels: Tensor, names: Sequence[str]) -> list[list[str]]:
        rows = np.searchsorted(self.tags.ends, self.counted, side="right")
        sentences: list[list[str]] = [[] for _ in range(len(self.rows))]
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
            sentences[row].append(names[label])
        return sentences


class Tagging(TextTask):
    """Sentences, cross-entropy of the tag of each word, accuracy on the validation sentences, or F1 of spans."""

    unit = "words"
    best = "val/accuracy"
    mode: Literal["min", "max"] = "max"
    use = "tag words with: python -m text.tag"

    def __init__(self, corpus: TaggedText, tokenizer: Tokenizer, config: TaggingConfig):
        self.corpus, self.tokenizer, self.config = corpus, tokenizer, config
        self.pad = special_ids(tokenizer).pad
        self.best = "val/span_f1" if mark_spans(corpus.names) else "val/accuracy"
        self.train, self.held_out = (
            Part(part, encode_words(tokenizer, part.words, config.model, config.too_long, name))
            for part, name in ((corpus.train, "training sentence"), (corpus.validation, "validation sentence"))
        )
        self.batches = LengthBatches(self.train.encoded.lengths, config.batch_size, "tokens", config.seed)
        self.dropout = TokenDropout(config.token_dropout, config.seed)
        of_words = np.count_nonzero(self.train.encoded.words.values != BETWEEN)
        if config.token_dropout and of_words <= len(self.train.tags.values):
            raise ValueError(
                f"token_dropout = {config.token_dropout} has no effect: every word is one token, and stays"
            )

    @classmethod
    def prepare(cls, config: TaggingConfig) -> Self:
        corpus = tagged(config)
        check_same_data(config, corpus.fingerprint)
        choice = chosen_tokenizer(config, config.default_tokenizer)
        tokenizer = learned(corpus, choice, config)
        shape = chosen_shape(config, special_ids(tokenizer).vocab_size)
        task = cls(corpus, tokenizer, replace(config, model=labelled_shape(shape, corpus.names)))
        task.config = in_steps(task.config, task.batches)
        return task

    def summary(self) -> str:
        corpus, train = self.corpus, self.train
        unit = "words" if corpus.unit == "words" else "residues"
        line = (
            f"{corpus.name}: {len(corpus.train):,} sentences of {len(train.tags.values):,} {unit} to train on, "
            f"{len(corpus.validation):,} held out, {len(corpus.names)} tags, a vocabulary of "
            f"{special_ids(self.tokenizer).vocab_size:,}"
        )
        return f"{line}\n{corpus.note}" if corpus.note else line

    def save_data(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        corpus = self.corpus
        sizes = {"train": len(corpus.train), "validation": len(corpus.validation)}
        save_data_record(folder, corpus.name, corpus.fingerprint, tags=corpus.names, unit=corpus.unit, **sizes)

    def objective(self, model: nn.Module) -> nn.Module:
        return TagLoss(model, self.config.label_smoothing)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step: (ids, lengths, words, tags), see `TagLoss`."""
        return [self._batch(rows, step) for rows in self.batches.shares(step, share)]

    @staticmethod
    def count(*batch: Tensor) -> Tensor:
        """How many tags of a micro-batch count: ()."""
        return (batch[-1] != IGNORED).sum()

    def evaluate(self, run: Run) -> dict[str, float]:
        """Figures of the answers to all validation words, shared among the processes."""
        rows = self.config.eval_batch or 64
        tagger = WordTagger(run.state.model, self.tokenizer, run.device, rows=rows)
        self.answers = self.held_out.answers(tagger, run)
        found = self.held_out.figures(self.answers, self.corpus.names)
        return {f"val/{name}": value for name, value in found.items()}

    def show(self, run: Run) -> None:
        """Writes confusions and the most confident errors to samples/step-*.txt."""
        if run.main:
            text = report(self.answers, self.corpus.names, self.held_out.shown)
            write_text(run.folder / "samples" / f"step-{run.step:08d}.txt", text)

    @classmethod
    def evaluate_trained(cls, trained: Trained, folder: Path, options: EvaluateConfig) -> tuple[str, dict[str, float]]:
        config = trained.config
        assert isinstance(config, TaggingConfig)
        refuse_others(options, "skip_bad")
        names, (parts, note) = config.model.labels, test_parts(trained, folder, options)
        rows = options.batch_size or 64
        tagger = WordTagger(trained.model, trained.tokenizer, trained.device, rows=rows, too_long=config.too_long)
        found: dict[str, float] = {}
        for name, rows_of in parts.items():
            part = Part(rows_of, tagger.encode(rows_of.words, f"{name} sentence"))
            answers = part.answers(tagger)
            found |= {f"{name}/{key}": value for key, value in part.figures(answers, names).items()}
            text = report(answers, names, part.shown)
            print(text)
            if trained.step:
                write_text(folder / "evaluation" / f"{name}.txt", text)
        sizes = ", ".join(f"{name} ({len(part):,} sentences)" for name, part in parts.items())
        return "\n".join(filter(None, (note, f"{options.data or config.data}: {sizes}"))), found

    def _batch(self, rows: Indices, step: int) -> Batch:
        ids, lengths, words = padded(self.train.encoded, rows, self.pad)
        tags, _ = self.train.tags.padded(rows, IGNORED)
        if self.dropout.rate:
            ids, lengths, words = self._thinned(ids, lengths, words, rows, step)
        return ids, lengths, words, tags

    def _thinned(
        self, ids: Tensor, lengths: Tensor, words: Tensor, rows: Indices, step: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Without the tokens that are left out; a word of which none would be left keeps all."""
        batch, tokens = self.batches.batch(step), self.train.encoded.ids.lengths
        drawn = self.dropout.keep(batch, rows, step, int(tokens[batch].max()))[:, : ids.shape[1]]
        keep = spared(torch.from_numpy(drawn), words)
        keep &= torch.arange(ids.shape[1]) < lengths[:, None]
        ids, words = compacted(keep, ids, self.pad), compacted(keep, words, BETWEEN)
        return ids, keep.sum(1).clamp(min=1), words


class TagLoss(LabelLoss):
    """The same for tags of words: batch is ids (B, T), lengths (B,), words (B, T), tags (B, W)."""

    def scores(self, inputs: list[Tensor], labels: Tensor) -> Tensor:
        scores: Tensor = self.model(*inputs, labels.shape[1])
        return scores


def tagged(config: TaggingConfig) -> TaggedText:
    """The tagged sentences of a run."""
    bad: Literal["refuse", "skip"] = "skip" if config.skip_bad else "refuse"
    return load_tagged(
        config.data,
        column=config.tags,
        validation=config.validation,
        validation_data=config.validation_data,
        bad=bad,
    )


def learned(corpus: TaggedText, choice: Tokenizer | str, config: TaggingConfig) -> Tokenizer:
    """The tokenizer that a choice stands for, learned from the words of the training part."""
    train = corpus.train
    if choice == "affixes":
        return AffixTokenizer.learn((word for sentence in train.words for word in sentence), config.min_count)
    if choice == "char" and corpus.unit == "characters":  # a rare residue may be in a test alone
        return CharTokenizer.train([*map("".join, train.words), ascii_uppercase])
    between = " " if corpus.unit == "words" else ""
    return choose_tokenizer(choice, map(between.join, train.words), train.fingerprint, config.bpe_size or 8000)


def test_parts(trained: Trained, folder: Path, options: EvaluateConfig) -> tuple[dict[str, Tagged], str]:
    """What a model is tested on (other data, the test parts of its own, or what it held out), and a note on it."""
    config = trained.config
    assert isinstance(config, TaggingConfig)
    if options.data:
        bad: Literal["refuse", "skip"] = "skip" if options.skip_bad else "refuse"
        return {"data": read_tagged(options.data, config.model.labels, column=config.tags, bad=bad)}, ""
    if not trained.step:
        raise ValueError(f"data is missing: {folder} is a public model, which has no sentences of its own; name some")
    corpus = tagged(config)
    return dict(corpus.tests) or {"val": corpus.validation}, corpus.note
