"""A trained classifier put to use: texts in, the probabilities of their labels out."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.training.answers import Answers
from core.training.order import Indices, Share
from text.corpus.batches import evaluation_batches, restored
from text.corpus.sequences import Ragged, TooLong, encode_all, frame_ids, limited, special_ids
from text.tasks.labelling.labels import real
from text.tokens.affixes import words_of
from text.tokens.base import Tokenizer
from text.using.word_tagger import BETWEEN, encode_words


class Encoded(NamedTuple):
    """Texts as tokens, and of which of two texts each token is, where the model tells them apart; or of which word.

    lengths: int64 (n,), what the core reads of each text: its tokens, or its words
    """

    ids: Ragged
    lengths: NDArray[np.int64]
    types: Ragged | None = None
    words: Ragged | None = None


class TextClassifier:
    """Classifies with a model and its tokenizer. rows: texts at once.

    A text is read between the tokens of a start and an end; a second one follows with its own end. The probabilities do
    not depend on which texts are classified together.
    """

    def __init__(
        self, model: Any, tokenizer: Tokenizer, device: torch.device, *, rows: int = 64, too_long: TooLong = "refuse"
    ):
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.rows, self.too_long = rows, too_long
        self.special = special_ids(tokenizer)

    def encode(self, texts: Sequence[str], seconds: Sequence[str] = (), name: str = "text") -> Encoded:
        """The tokens of texts, or of pairs of them. Raises ValueError for one that is too long."""
        return encode_texts(self.tokenizer, texts, seconds, self.model.config, self.too_long, name)

    def probabilities(self, encoded: Encoded) -> Tensor:
        """Of each label for each text: float64 (N, K)."""
        batches = evaluation_batches(encoded.lengths, self.rows)
        found = [self._scores(encoded, batch).double().softmax(-1).unbind() for batch in batches]
        return torch.stack(restored(batches, found, len(encoded.ids)))

    def answers(
        self, encoded: Encoded, labels: Sequence[int], share: Share | None = None
    ) -> Iterator[tuple[Indices, Answers]]:
        """The places of some texts and the answers to them, of all that are a process's share."""
        truth, share = torch.tensor(labels), share or Share()
        for batch in evaluation_batches(encoded.lengths, self.rows, rank=share.rank, world=share.world):
            if real(batch):
                yield batch, Answers.of(self._scores(encoded, batch), truth[batch])

    @torch.inference_mode()
    def _scores(self, encoded: Encoded, batch: Indices) -> Tensor:
        inputs = (tensor.to(self.device) for tensor in padded(encoded, batch, self.special.pad))
        scores: Tensor = self.model(*inputs)
        return scores.cpu()


def encode_texts(
    tokenizer: Tokenizer, texts: Sequence[str], seconds: Sequence[str], shape: Any, too_long: TooLong, name: str
) -> Encoded:
    """The tokens of texts, or of pairs where there are `seconds`, of at most the context of a model of that shape.

    A tokenizer whose files say how texts are framed is followed; any other puts an end behind each of the two. Words
    that enter the core as such are apart from marks (`text.tokens.affixes.words_of`).
    """
    if shape.words == "early-mean":
        if any(seconds):
            raise ValueError("model.words = 'early-mean' reads one text, and tells no second one apart")
        words = encode_words(tokenizer, [*map(words_of, texts)], shape, too_long, name)
        return Encoded(words.ids, words.lengths, words=words.words)
    longest, (before, after) = shape.context, frame_ids(tokenizer, shape.vocab_size)
    if not any(seconds):
        limits: dict[str, Any] = {"longest": longest, "too_long": too_long, "name": name}
        ids = encode_all(tokenizer, texts, before=before, after=after, **limits)
        return Encoded(ids, ids.lengths)
    if any(tokenizer.frame):
        framed = [tokenizer.encode_framed(*pair) for pair in zip(texts, seconds, strict=True)]
        ids, types = (Ragged.of(part) for part in zip(*framed, strict=True))
    else:
        first = encode_all(tokenizer, texts, before=before, after=after)
        second = encode_all(tokenizer, seconds, after=after)
        ids, sides = joined(first, second), zip(first.lengths, second.lengths, strict=True)
        types = Ragged.of([np.repeat([0, 1], lengths) for lengths in sides])
    ids = limited(ids, longest, longest, too_long, f"pair of {name}s")
    return Encoded(ids, ids.lengths, types.cut(longest) if shape.types > 1 else None)


def joined(first: Ragged, second: Ragged) -> Ragged:
    """Each sequence of the first with that of the second behind it."""
    return Ragged.of([np.concatenate((first[row], second[row])) for row in range(len(first))])


def padded(encoded: Encoded, rows: Indices, pad: int) -> tuple[Tensor, ...]:
    """What a classifier reads of some texts: ids int64 (b, T), lengths (b,), and types or words (b, T) if any."""
    more = [(encoded.types, 0), (encoded.words, BETWEEN)]
    return (*encoded.ids.padded(rows, pad), *(each.padded(rows, fill)[0] for each, fill in more if each is not None))
