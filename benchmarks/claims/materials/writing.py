"""Sentences of film reviews: a model that writes them, and judges that tell kind ones from unkind ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.claims.common import NEVER, fit, next_token, seeded, targets_of
from core.decoding.generate import complete
from core.vocabulary import IGNORED
from text.corpus.sequences import Ragged, encode_all
from text.models.gpt import GPT, GPTConfig
from text.presets import MUON, PRESETS, modern_core
from text.tasks.chatting.preferences import row_logs
from text.tokens.base import Tokenizer
from text.train import train
from text.trained import load
from text.using.text_classifier import TextClassifier

LONGEST, ROWS, VOCABULARY = 32, 64, 4000  # tokens of a sentence, sentences of a batch
Reward = Callable[[Sequence[str]], Tensor]
"""Log-odds that texts are kind: (B,) float32."""


class Written(NamedTuple):
    """Sentences: what the model reads, what it says, 2 x int64 (B, T), and the texts."""

    ids: Tensor
    said: Tensor
    texts: list[str]


def judge(folder: Path, tokenizer: str, seconds: float, seed: int) -> Reward:
    """A classifier of SST-2's sentences, trained by the text panel from the phrases that they are made of."""
    config: Any = PRESETS["sst2"]
    words = "early-mean" if tokenizer == "affixes" else "tokens"
    budget = {"epochs": None, "minutes": seconds / 60, "clock": "cpu", "eval_every": NEVER, "save_every": NEVER}
    kind = {"tokenizer": tokenizer, "min_count": config.min_count if tokenizer == "affixes" else 2}
    shape = replace(config.model, words=words)
    train(replace(config, **budget, **kind, out=folder, seed=seed, device="cpu", model=shape))
    trained = load(folder, "last")
    classifier = TextClassifier(trained.model, trained.tokenizer, trained.device, rows=256, too_long="truncate")

    def reward(texts: Sequence[str]) -> Tensor:
        said = classifier.probabilities(classifier.encode([text.strip() or "." for text in texts]))  # (B, 2)
        return (said[:, 1] / said[:, 0]).log().float()

    return reward


def shape(tokenizer: Tokenizer, dropout: float) -> GPTConfig:
    return GPTConfig(tokenizer.vocab_size, LONGEST + 1, "untied", modern_core(128, 3, 4, dropout=dropout))


def writer(texts: Sequence[str], tokenizer: Tokenizer, seconds: float, seed: int) -> GPT:
    """A model of sentences, each between the tokens of a start and an end; left without dropout."""
    rows = encode_all(tokenizer, texts, before=[tokenizer.bos or 0], after=[tokenizer.eos or 0]).cut(LONGEST + 1)
    model: GPT = seeded(seed, lambda: GPT(shape(tokenizer, 0.2)))
    fit(model, next_token, partial(sentences, rows), seconds, seed, count=targets_of, optimizer=MUON, precision="auto")
    plain = GPT(shape(tokenizer, 0.0))
    plain.load_state_dict(model.state_dict())
    return plain.eval()


def sentences(rows: Ragged, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """What is read and what follows: 2 x int64 (B, T)."""
    chosen = torch.randint(len(rows), (ROWS,), generator=g)
    ids, lengths = rows.padded(chosen.numpy(), 0)
    behind = torch.arange(1, ids.shape[1]) >= lengths[:, None]
    return ids[:, :-1], ids[:, 1:].masked_fill(behind, IGNORED)


def write(model: GPT, tokenizer: Tokenizer, rows: int, seed: int) -> Written:
    """New sentences, drawn at a temperature of 1."""
    start = tokenizer.bos or 0
    found = complete(model, [[start]] * rows, LONGEST, seeds=(seed,), stop=[tokenizer.eos or 0])
    ids, lengths = Ragged.of(found).padded(torch.arange(rows).numpy(), 0)
    said = ids.masked_fill(torch.arange(ids.shape[1]) >= lengths[:, None], IGNORED)
    texts = [tokenizer.decode([token for token in row if token != tokenizer.eos]) for row in found]
    return Written(torch.cat((torch.full((rows, 1), start), ids[:, :-1]), dim=1), said, texts)


def logs(model: Any, ids: Tensor, said: Tensor) -> Tensor:
    """Log-probabilities of whole sentences: 2 x int64 (B, T) -> (B,)."""
    return row_logs(model, ids, said, torch.zeros_like(ids))
