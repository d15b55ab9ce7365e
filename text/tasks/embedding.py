"""Vectors of texts, learned from pairs that belong together."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.files.atomic import write_text
from core.training.config import with_steps
from core.training.order import Batch, Indices, Share, shuffled
from core.training.order import share as divided
from core.training.run import Run
from core.training.trained import save_data_record
from text.config import EvaluateConfig
from text.corpus.sequences import Ragged, choose_tokenizer, framed, special_ids
from text.examples.pairs import Pairs, ParallelText
from text.models.encoder import Embedder
from text.tasks.embedding_config import EmbeddingConfig
from text.tasks.paired import test_pairs, training_pairs
from text.tasks.task import TextTask, chosen_shape, chosen_tokenizer
from text.tokens.base import Tokenizer
from text.trained import Trained
from text.using.text_encoder import TextEncoder, Vectors, frame, nearest

SHOWN = 10  # held-out texts in samples/
AT_ONCE = 1024  # texts compared with all others at once
ROUNDING = 1e-6  # of cosines


class Embedding(TextTask):
    """Pairs of texts, each to be nearer to its partner than to those of others (InfoNCE, van den Oord 2018)."""

    unit = "pairs"
    best = "val/mrr"
    mode: Literal["min", "max"] = "max"
    use = "get vectors with: python -m text.embed"

    def __init__(self, pairs: ParallelText, tokenizer: Tokenizer, config: EmbeddingConfig):
        self.pairs, self.tokenizer, self.config = pairs, tokenizer, config
        self.pad = special_ids(tokenizer).pad
        self.train = [self._encoded(texts) for texts in (pairs.train.source, pairs.train.target)]
        self.names = np.stack([numbered(texts) for texts in (pairs.train.source, pairs.train.target)], axis=1)

    @classmethod
    def prepare(cls, config: EmbeddingConfig) -> Self:
        pairs = training_pairs(config)
        texts = [*pairs.train.source, *pairs.train.target]
        choice = chosen_tokenizer(config, config.default_tokenizer)
        tokenizer = choose_tokenizer(choice, texts, pairs.train.fingerprint, config.bpe_size or 8000)
        shape = chosen_shape(config, special_ids(tokenizer).vocab_size)
        config = replace(config, model=shape, source=pairs.source, target=pairs.target)
        return cls(pairs, tokenizer, with_steps(config, len(pairs.train)))

    def summary(self) -> str:
        pairs = self.pairs
        sides = f"{pairs.source or 'source'} and {pairs.target or 'target'}"
        return (
            f"{pairs.name}, {sides}: {len(pairs.train):,} pairs to train on, {len(pairs.validation):,} held out, "
            f"a vocabulary of {self.config.model.vocab_size:,}"
        )

    def save_data(self, folder: Path) -> None:
        framed(self.tokenizer, "bos").save(folder)
        sizes = {"train": len(self.pairs.train), "validation": len(self.pairs.validation)}
        save_data_record(folder, self.pairs.name, self.pairs.fingerprint, **sizes)

    def objective(self, model: Embedder) -> nn.Module:
        return ContrastiveLoss(model, self.config.group, self.config.temperature)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step, each of whole groups: see `ContrastiveLoss`."""
        config = self.config
        if (pairs := config.batch_size // (share.world * share.accumulate)) % config.group:
            raise ValueError(f"group = {config.group} must divide the {pairs} pairs of a micro-batch of one process")
        rows = shuffled(config.seed, step, config.batch_size, len(self.pairs.train))
        return [self._batch(part) for part in divided(rows, *share)]

    def _batch(self, rows: Indices) -> Batch:
        sides = (tensor for side in self.train for tensor in side.padded(rows, self.pad))
        return *sides, torch.from_numpy(self.names[rows])

    @staticmethod
    def count(*batch: Tensor) -> int:
        """How many pairs there are in a micro-batch."""
        return len(batch[0])

    def evaluate(self, run: Run) -> dict[str, float]:
        """How well the partners of held-out texts are found among all of them, see `evaluated`."""
        encoder = TextEncoder(run.state.model, self.tokenizer, run.device, rows=self.config.eval_batch or 64)
        self.vectors, figures = evaluated(encoder, self.pairs.validation)
        return {f"val/{name}": value for name, value in figures.items()}

    def show(self, run: Run) -> None:
        """Writes some held-out texts, and what is nearest to them among the partners, to samples/step-*.txt."""
        if not run.main:
            return
        held_out, (queries, vectors) = self.pairs.validation, self.vectors
        lines = []
        for place in range(min(SHOWN, len(held_out))):
            [(found, cosine)] = nearest(queries[place], vectors, 1)
            lines.append(f"{held_out.source[place]}\n  {cosine:.3f} {held_out.target[found]}\n")
        write_text(run.folder / "samples" / f"step-{run.step:08d}.txt", "\n".join(lines))

    @classmethod
    def evaluate_trained(cls, trained: Trained, folder: Path, options: EvaluateConfig) -> tuple[str, dict[str, float]]:
        config = trained.config
        assert isinstance(config, EmbeddingConfig)
        public = not trained.step
        if public and not options.data:
            raise ValueError(f"data is missing: {folder} is a public model, which has no pairs of its own; name some")
        tests, _ = test_pairs(replace(config, data="") if public else config, options)
        encoder = TextEncoder(trained.model, trained.tokenizer, trained.device, rows=options.batch_size or 64)
        figures: dict[str, float] = {}
        for name, pairs in tests.items():
            figures |= {f"{name}/{key}": value for key, value in evaluated(encoder, pairs)[1].items()}
        return f"{', '.join(f'{name}: {len(pairs):,} pairs' for name, pairs in tests.items())}", figures

    def _encoded(self, texts: Sequence[str]) -> Ragged:
        return frame(self.tokenizer, texts, self.config.model, self.config.too_long)


class ContrastiveLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one.

    group: pairs that are compared with one another. temperature: what cosines are divided by
    """

    def __init__(self, model: Embedder, group: int, temperature: float):
        super().__init__()
        self.model, self.group, self.temperature = model, group, temperature

    def forward(
        self, source: Tensor, source_lengths: Tensor, target: Tensor, target_lengths: Tensor, names: Tensor
    ) -> Tensor:
        """Cross-entropy of the true partner of each text among those in its group, in nats, the mean of both ways,
        summed over the pairs: int64 (B, N), (B,), (B, T), (B,), (B, 2) -> () float32.

        names: numbers of the two texts of each pair; a partner that is the same as the true one is no wrong answer
        """
        a, b = self._vectors(source, source_lengths), self._vectors(target, target_lengths)
        cosines = a @ b.mT / self.temperature  # (B / group, group, group)
        sides = names.view(-1, self.group, 2).unbind(-1)  # 2 x (B / group, group)
        return (in_group(cosines, sides[1]) + in_group(cosines.mT, sides[0])) / 2

    def _vectors(self, ids: Tensor, lengths: Tensor) -> Tensor:
        vectors = F.normalize(self.model(ids, lengths).float(), dim=-1)  # (B, D)
        return vectors.unflatten(0, (-1, self.group))  # (B / group, group, D)


def in_group(scores: Tensor, names: Tensor) -> Tensor:
    """Cross-entropy of entry i of row i, summed: (G, n, n) -> (). names: int64 (G, n), equal for the same answer."""
    own = torch.eye(names.shape[1], dtype=torch.bool, device=names.device)
    also_right = (names.unsqueeze(1) == names.unsqueeze(2)) & ~own  # (G, n, n)
    truth = torch.arange(names.shape[1], device=names.device).expand_as(names)
    scores = scores.masked_fill(also_right, -torch.inf)
    return F.cross_entropy(scores.flatten(0, 1), truth.flatten(), reduction="sum")  # (G n, n)


def numbered(texts: Sequence[str]) -> Indices:
    """A number for each text, equal for equal ones: int64 (n,)."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)


def evaluated(encoder: TextEncoder, pairs: Pairs) -> tuple[list[Vectors], dict[str, float]]:
    """The vectors of both sides, and how well the partner of each text is found among those of all, by their cosines.

    accuracy is the share of the texts whose partner is the nearest, mrr the mean of 1 / (rank of the partner), of both
    ways together.
    """
    sides = pairs.source, pairs.target
    a, b = vectors = [encoder.encode(texts) for texts in sides]
    first, second = map(numbered, sides)
    ranks = np.concatenate([partner_ranks(a, b, second), partner_ranks(b, a, first)])
    return vectors, {"accuracy": float((ranks == 1).mean()), "mrr": float((1 / ranks).mean())}


def partner_ranks(a: Vectors, b: Vectors, names: Indices) -> Indices:
    """The rank of vector i of b among all of b, the nearest to vector i of a first, all (n, D): int64 (n,), from 1.

    Others that are as near, but for rounding, rank before it; others of the same name, (n,), are left out.
    """
    ranks = np.empty(len(a), np.int64)
    for start in range(0, len(a), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(a)))
        cosines = a[rows] @ b.T  # (m, n)
        others = names[rows, None] != names  # (m, n)
        limits = cosines[np.arange(len(rows)), rows] - ROUNDING
        ranks[rows] = 1 + ((cosines >= limits[:, None]) & others).sum(1)
    return ranks
