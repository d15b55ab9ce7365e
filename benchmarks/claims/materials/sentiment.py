"""Sentences of film reviews, learned from few labels by an encoder that has read novels, or nothing."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.claims.common import Draw, fit, hidden_tokens, seeded
from core.optim.config import OptimizerConfig
from text.corpus.load import ArrayCorpus, load_corpus
from text.corpus.sequences import Ragged, encode_all
from text.corruption.masking import Ids, build_masking, masked_ids
from text.examples.labelled import load_labelled
from text.models.encoder import Classifier, ClassifierConfig, MaskedLM, MaskedLMConfig
from text.models.heads import HeadConfig
from text.presets import MUON, modern_core

CONTEXT, VOCABULARY, MASKED = 66, 2048, 0.3
LABELS, PRETRAINING = (100, 1000, 6920), 4
"""Sentences to learn from; and trainings that the time of pre-training would be enough for."""
ADAMW, HEAD = (OptimizerConfig(lr=rate, betas=(0.9, 0.98), weight_decay=0.05) for rate in (1e-3, 5e-3))


class Reviews(NamedTuple):
    """Sentences between the tokens of a start and an end, and their labels int64 (n,), to train on and to test with."""

    train: Ragged
    labels: Tensor
    test: Ragged
    true: Tensor


@lru_cache(maxsize=1)
def novels() -> tuple[ArrayCorpus, Ids]:
    """Novels by a byte-pair encoding that was learned from them, and its special tokens."""
    corpus = load_corpus("british_novels", "bpe", vocab_size=VOCABULARY, special="all")
    return corpus, masked_ids(corpus.tokenizer)


@lru_cache(maxsize=1)
def reviews() -> Reviews:
    (corpus, ids), data = novels(), load_labelled("sst2")
    train, test = (
        encode_all(corpus.tokenizer, part.texts, before=[ids.bos], after=[ids.eos]).cut(CONTEXT)
        for part in (data.train, data.tests["test"])
    )
    return Reviews(train, torch.tensor(data.train.labels), test, torch.tensor(data.tests["test"].labels))


def hidden_words(g: torch.Generator) -> tuple[Tensor, ...]:
    """Windows of novels: ids (B, T), lengths (B,), places and targets (N,)."""
    corpus, ids = novels()
    starts = torch.randint(len(corpus.train) - CONTEXT, (32, 1), generator=g).numpy()
    rows = corpus.train[starts + np.arange(CONTEXT)].astype(np.int64)
    rows[:, 0], rows[:, -1] = ids.bos, ids.eos
    number = int(torch.randint(2**31, (), generator=g))
    hidden = build_masking(corpus.tokenizer, MASKED, "bert").hide(rows, number, "masking", range(len(rows)))
    return hidden.ids, torch.full((len(rows),), CONTEXT), hidden.places, hidden.targets


def draw_reviews(chosen: Tensor) -> Draw:
    """Sentences among those that are chosen: ids (B, T), lengths (B,), labels (B,)."""

    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        rows = chosen[torch.randint(len(chosen), (32,), generator=g)]
        return *reviews().train.padded(rows.numpy(), novels()[1].pad), reviews().labels[rows]

    return draw


def class_loss(model: nn.Module, ids: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(ids, lengths).float(), labels, reduction="sum")


def encoder() -> MaskedLM:
    return MaskedLM(MaskedLMConfig(novels()[1].vocab_size, CONTEXT, core=modern_core(128, 2, 4, dropout=0.1)))


def classifier() -> Classifier:
    head = HeadConfig("dense-norm", "gelu", "output")
    shape: dict[str, Any] = {"labels": ("negative", "positive"), "pooling": "mean", "head": head}
    core = modern_core(128, 2, 4, dropout=0.1)
    return Classifier(ClassifierConfig(novels()[1].vocab_size, CONTEXT, core=core, **shape))


def on_sentences(starts: tuple[str, str, str], seconds: float, tested: int, seed: int) -> dict[str, list[float]]:
    """Test accuracy by the number of labels: from nothing, from an encoder that has read novels, by its head alone."""
    first: MaskedLM = seeded(seed, encoder)
    count = lambda *batch: len(batch[-1])  # noqa: E731
    learn = partial(fit, seed=seed, precision="auto")
    learn(first, hidden_tokens, hidden_words, PRETRAINING * seconds, count=count, optimizer=MUON)
    order = torch.randperm(len(reviews().labels), generator=torch.Generator().manual_seed(seed))
    found: dict[str, list[float]] = {start: [] for start in starts}
    for labels in LABELS:
        for start in starts:
            model: Classifier = seeded(seed, classifier)
            if start != starts[0]:
                model.start_from(first)
            model.encoder.requires_grad_(start != starts[2])
            optimizer = HEAD if start == starts[2] else ADAMW
            learn(model, class_loss, draw_reviews(order[:labels]), seconds, optimizer=optimizer)
            found[start].append(accuracy(model, tested))
    return found


@torch.no_grad()
def accuracy(model: nn.Module, tested: int) -> float:
    """The share of test sentences, or of the first so many, that it classifies correctly."""
    rows, pad = np.arange(min(tested, len(reviews().true))), novels()[1].pad
    said = [model(*reviews().test.padded(part, pad)).argmax(-1) for part in np.split(rows, range(256, len(rows), 256))]
    return (torch.cat(said) == reviews().true[: len(rows)]).float().mean().item()
