"""Giving texts one of several labels."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn

from core.files.atomic import write_text
from core.training.order import Batch, Indices, Share
from core.training.run import Run
from core.training.trained import save_data_record
from text.config import EvaluateConfig
from text.corpus.batches import LengthBatches
from text.corpus.sequences import choose_tokenizer, frame_ids, special_ids
from text.corpus.windows import IGNORED
from text.examples.labelled import LabelledText, Texts, load_labelled, read_labelled
from text.reports.labels import report
from text.tasks.labelling.configs import ClassificationConfig
from text.tasks.labelling.labels import (
    LabelLoss,
    TokenDropout,
    compacted,
    figures,
    gathered,
    labelled_shape,
    real,
    refuse_others,
    spared,
)
from text.tasks.task import TextTask, check_same_data, chosen_shape, chosen_tokenizer, in_steps
from text.tokens.affixes import AffixTokenizer, words_of
from text.tokens.base import Tokenizer
from text.trained import Trained
from text.using.text_classifier import TextClassifier, encode_texts, padded
from text.using.word_tagger import BETWEEN


class Classification(TextTask):
    """Texts, cross-entropy of each one's label, accuracy on the validation texts."""

    unit = "texts"
    best = "val/accuracy"
    mode: Literal["min", "max"] = "max"
    use = "classify texts with: python -m text.classify"

    def __init__(self, corpus: LabelledText, tokenizer: Tokenizer, config: ClassificationConfig):
        self.corpus, self.tokenizer, self.config = corpus, tokenizer, config
        self.special = special_ids(tokenizer)
        parts = ((corpus.train, "training text"), (corpus.validation, "validation text"))
        self.train, self.held_out = (
            encode_texts(tokenizer, part.texts, part.seconds, config.model, config.too_long, name)
            for part, name in parts
        )
        self.labels = torch.tensor(corpus.train.labels)
        self.batches = LengthBatches(self.train.lengths, config.batch_size, "rows", config.seed)
        self.dropout = TokenDropout(config.token_dropout, config.seed)

    @classmethod
    def prepare(cls, config: ClassificationConfig) -> Self:
        corpus = labelled(config)
        check_same_data(config, corpus.fingerprint)
        choice = chosen_tokenizer(config, config.default_tokenizer)
        tokenizer = learned(corpus.train, choice, config)
        shape = chosen_shape(config, special_ids(tokenizer).vocab_size)
        task = cls(corpus, tokenizer, replace(config, model=labelled_shape(shape, corpus.classes)))
        task.config = in_steps(task.config, task.batches)
        return task

    def summary(self) -> str:
        corpus = self.corpus
        return (
            f"{corpus.name}: {len(corpus.train):,} texts of {len(self.train.ids.values):,} tokens to train on, "
            f"{len(corpus.validation):,} held out, {len(corpus.classes)} labels, a vocabulary of "
            f"{self.special.vocab_size:,}"
        )

    def save_data(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        corpus = self.corpus
        sizes = {"train": len(corpus.train), "validation": len(corpus.validation)}
        save_data_record(folder, corpus.name, corpus.fingerprint, labels=corpus.classes, paired=corpus.paired, **sizes)

    def objective(self, model: nn.Module) -> nn.Module:
        return LabelLoss(model, self.config.label_smoothing)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step: (ids, lengths, perhaps types, labels), see `LabelLoss`."""
        return [self._batch(rows, step) for rows in self.batches.shares(step, share)]

    @staticmethod
    def count(*batch: Tensor) -> Tensor:
        """How many labels of a micro-batch count: ()."""
        return (batch[-1] != IGNORED).sum()

    def evaluate(self, run: Run) -> dict[str, float]:
        """Figures of the answers to all validation texts, shared among the processes."""
        rows = self.config.eval_batch or 64
        classifier = TextClassifier(run.state.model, self.tokenizer, run.device, rows=rows)
        truth = self.corpus.validation.labels
        self.answers = gathered(classifier.answers(self.held_out, truth, run.share), len(truth), run)
        return {f"val/{name}": value for name, value in figures(self.answers, len(self.corpus.classes)).items()}

    def show(self, run: Run) -> None:
        """Writes confusions and the most confident errors to samples/step-*.txt."""
        if run.main:
            text = report(self.answers, self.corpus.classes, lambda place: shown(self.corpus.validation, place))
            write_text(run.folder / "samples" / f"step-{run.step:08d}.txt", text)

    @classmethod
    def evaluate_trained(cls, trained: Trained, folder: Path, options: EvaluateConfig) -> tuple[str, dict[str, float]]:
        config = trained.config
        assert isinstance(config, ClassificationConfig)
        refuse_others(options, "column", "skip_bad")
        labels, parts = config.model.labels, test_parts(trained, folder, options)
        classifier = TextClassifier(
            trained.model, trained.tokenizer, trained.device, rows=options.batch_size or 64, too_long=config.too_long
        )
        found: dict[str, float] = {}
        for name, part in parts.items():
            encoded = classifier.encode(part.texts, part.seconds, f"{name} text")
            answers = gathered(classifier.answers(encoded, part.labels), len(part))
            found |= {f"{name}/{key}": value for key, value in figures(answers, len(labels)).items()}
            text = report(answers, labels, lambda place, part=part: shown(part, place))  # type: ignore[misc]
            print(text)
            if trained.step:
                write_text(folder / "evaluation" / f"{name}.txt", text)
        sizes = ", ".join(f"{name} ({len(part):,} texts)" for name, part in parts.items())
        return f"{config.data if not options.data else options.data}: {sizes}", found

    def _batch(self, rows: Indices, step: int) -> Batch:
        inputs = padded(self.train, rows, self.special.pad)
        labels = self.labels[rows] if real(rows) else torch.full((len(rows),), IGNORED)
        return (*(self._thinned(inputs, rows, step) if self.dropout.rate else inputs), labels)

    def _thinned(self, inputs: tuple[Tensor, ...], rows: Indices, step: int) -> tuple[Tensor, ...]:
        """Without the tokens that are left out; those of starts and ends stay, and one of each word that is read."""
        ids, lengths, *more = inputs
        batch = self.batches.batch(step)
        drawn = self.dropout.keep(batch, rows, step, int(self.train.ids.lengths[batch].max()))[:, : ids.shape[1]]
        before, after = frame_ids(self.tokenizer, self.special.vocab_size)
        keep = torch.from_numpy(drawn) | torch.isin(ids, torch.tensor(before + after, dtype=torch.int64))
        keep = keep if self.train.words is None else spared(keep, more[0])
        keep &= torch.arange(ids.shape[1]) < lengths[:, None]
        fill = 0 if self.train.words is None else BETWEEN
        ids, *more = compacted(keep, ids, self.special.pad), *(compacted(keep, part, fill) for part in more)
        return ids, keep.sum(1).clamp(min=1), *more


def labelled(config: ClassificationConfig) -> LabelledText:
    """The texts and labels of a run."""
    bad: Literal["refuse", "skip"] = "skip" if config.skip_bad else "refuse"
    return load_labelled(
        config.data,
        column=config.column,
        second_column=config.second_column,
        label_column=config.label_column,
        validation=config.validation,
        validation_data=config.validation_data,
        bad=bad,
    )


def test_parts(trained: Trained, folder: Path, options: EvaluateConfig) -> dict[str, Texts]:
    """What a model is tested on: other data, the test parts of its own, or what it held out."""
    config = trained.config
    assert isinstance(config, ClassificationConfig)
    if options.data:
        bad: Literal["refuse", "skip"] = "skip" if options.skip_bad else "refuse"
        columns = {"second_column": config.second_column, "label_column": config.label_column}
        column = options.column or config.column
        return {"data": read_labelled(options.data, config.model.labels, column=column, bad=bad, **columns)}
    if not trained.step:
        raise ValueError(f"data is missing: {folder} is a public model, which has no texts of its own; name some")
    corpus = labelled(config)
    return dict(corpus.tests) or {"val": corpus.validation}


def learned(train: Texts, choice: Tokenizer | str, config: ClassificationConfig) -> Tokenizer:
    """The tokenizer that a choice stands for, learned from the texts to train on."""
    texts = [text for text in (*train.texts, *train.seconds) if text]
    if choice == "affixes":
        return AffixTokenizer.learn((word for text in texts for word in words_of(text)), config.min_count)
    return choose_tokenizer(choice, texts, train.fingerprint, config.bpe_size or 8000)


def shown(part: Texts, place: int) -> str:
    """A text, or two."""
    return " | ".join(filter(None, (part.texts[place], part.seconds[place])))
