"""A trained encoder-decoder put to use: sentences in, sentences out."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from core.decoding.beams import Hypothesis, beam_search
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from text.corpus.batches import evaluation_batches, restored
from text.corpus.sequences import Ragged
from text.tokens.base import Tokenizer

GREEDY = Sampling(temperature=0)


class Translation(NamedTuple):
    """A translation, and its log-probability, divided by the length penalty where beams found it."""

    text: str
    score: float | None


class Translator:
    """Translates with a model and its tokenizer.

    rows: sentences translated at once. beams: 1 takes the most probable token. best: translations of each sentence, at
    most as many as beams. A translation is at most `ratio` times as long as its source and 10 tokens more, as far as
    the model's context goes.
    """

    def __init__(
        self, model: Any, tokenizer: Tokenizer, device: torch.device, *, rows: int = 64, beams: int = 1,
        best: int = 1, length_penalty: float = 0.6, ratio: float = 2.0,
    ):  # fmt: skip
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.rows, self.beams, self.best, self.length_penalty, self.ratio = rows, beams, best, length_penalty, ratio
        self.ids: Any = model.config  # its start, eos and pad

    def translate(self, sources: Ragged) -> list[list[Translation]]:
        """For each source, with its end token, the translations that were found, best first: one without beams."""
        batches = evaluation_batches(sources.lengths, self.rows)
        found = [self._batch(*sources.padded(batch, self.ids.pad)) for batch in batches]
        return restored(batches, found, len(sources))

    def alignment(self, source: Sequence[int], target: Sequence[int]) -> Tensor:
        """How much each target token, those before it being given, attends to each of the source: (T, N)."""
        inputs = torch.tensor([[self.ids.start, *target[:-1]]], device=self.device)
        rows = torch.tensor([[*source]], device=self.device)
        with torch.inference_mode():
            weights: Tensor = self.model.alignments(rows, None, inputs)
        return weights[0].float()

    def text(self, ids: Sequence[int]) -> str:
        """The text of the tokens of a translation."""
        special = {self.ids.pad, self.ids.start, self.ids.eos, *self.tokenizer.stops}
        return self.tokenizer.decode([i for i in ids if i not in special and i < self.tokenizer.vocab_size]).strip()

    def _batch(self, source: Tensor, lengths: Tensor) -> list[list[Translation]]:
        bound = self.model.bind(source.to(self.device), lengths.to(self.device))
        most = min(most_tokens(int(lengths.max()), self.ratio), self.model.config.context - 1)
        prompts, eos = [[self.ids.start]] * len(source), self.ids.eos
        if self.beams == 1:
            rows = complete(bound, prompts, most, GREEDY, stop=[eos], device=self.device)
            return [[Translation(self.text(row), None)] for row in rows]
        settings: dict[str, Any] = {"n_best": self.best, "length_penalty": self.length_penalty, "device": self.device}
        found = beam_search(bound, prompts, most, self.beams, eos=eos, **settings)
        return [[self._translation(each) for each in hypotheses] for hypotheses in found]

    def _translation(self, found: Hypothesis) -> Translation:
        return Translation(self.text(found.tokens), found.score)


def most_tokens(length: int, ratio: float = 2.0) -> int:
    """Of a translation, from the tokens of its source."""
    return int(length * ratio) + 10


def in_groups(lines: Iterator[str], size: int) -> Iterator[list[str]]:
    """Lines in lists of at most `size`, each as soon as it is full."""
    group: list[str] = []
    for line in lines:
        group.append(line)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
