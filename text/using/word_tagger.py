"""A trained tagger put to use: sentences in, a tag for each of their words out."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.messages import notice
from core.training.answers import Answers
from core.training.order import Indices, Share
from text.corpus.batches import evaluation_batches, restored
from text.corpus.sequences import Ragged, TooLong, encode_all, frame_ids, limited, special_ids
from text.corpus.windows import IGNORED
from text.models.encoder import ClassifierConfig, TaggerConfig
from text.tasks.labelling.labels import real
from text.tokens.base import Tokenizer
from text.tokens.bpe import BPETokenizer

BETWEEN = -1  # the number of the word of a token that belongs to none


class Words(NamedTuple):
    """Sentences as tokens, with the number of the word, in its sentence, that each token belongs to.

    lengths: int64 (n,), what the core reads of each sentence: its tokens, or its words. read: int64 (n,), its words of
    which there is anything to read.
    """

    ids: Ragged
    words: Ragged
    lengths: NDArray[np.int64]
    read: NDArray[np.int64]


class WordTagger:
    """Tags with a model and its tokenizer. rows: sentences at once.

    The tags of a sentence do not depend on which others are tagged with it.
    """

    def __init__(
        self, model: Any, tokenizer: Tokenizer, device: torch.device, *, rows: int = 64, too_long: TooLong = "refuse"
    ):
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.rows, self.too_long = rows, too_long
        self.pad = special_ids(tokenizer).pad

    def encode(self, sentences: Sequence[Sequence[str]], name: str = "sentence") -> Words:
        """The tokens of sentences. Raises ValueError for one that is too long."""
        return encode_words(self.tokenizer, sentences, self.model.config, self.too_long, name)

    def tags(self, encoded: Words) -> list[list[str]]:
        """The most probable tag of each word that is read."""
        batches, labels = evaluation_batches(encoded.lengths, self.rows), self.model.config.labels
        found = [self._scores(encoded, batch).argmax(-1).tolist() for batch in batches]
        rows = restored(batches, found, len(encoded.read))
        return [[labels[tag] for tag in row[:count]] for row, count in zip(rows, encoded.read.tolist(), strict=True)]

    def answers(self, encoded: Words, tags: Ragged, share: Share | None = None) -> Iterator[tuple[Indices, Answers]]:
        """The places of some words, counted over all sentences, and the answers to them, of a process's share.

        tags: the true ones, IGNORED where none counts, for which there is no answer
        """
        share = share or Share()
        for batch in evaluation_batches(encoded.lengths, self.rows, rank=share.rank, world=share.world):
            if not real(batch):
                continue
            scores, (truth, _) = self._scores(encoded, batch), tags.padded(batch, IGNORED)
            counted = truth[:, : scores.shape[1]] != IGNORED  # (b, W)
            places = torch.from_numpy(tags.starts[batch])[:, None] + torch.arange(scores.shape[1])  # (b, W)
            yield places[counted].numpy(), Answers.of(scores[counted], truth[:, : scores.shape[1]][counted])

    @torch.inference_mode()
    def _scores(self, encoded: Words, batch: Indices) -> Tensor:
        count = max(1, int(encoded.read[batch].max()))
        inputs = (tensor.to(self.device) for tensor in padded(encoded, batch, self.pad))
        scores: Tensor = self.model(*inputs, count)
        return scores.cpu()


def padded(encoded: Words, rows: Indices, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a tagger reads of some sentences: ids int64 (b, T), lengths (b,), the word of each token (b, T)."""
    ids, lengths = encoded.ids.padded(rows, pad)
    words, _ = encoded.words.padded(rows, BETWEEN)
    return ids, lengths, words


def encode_words(
    tokenizer: Tokenizer,
    sentences: Sequence[Sequence[str]],
    shape: TaggerConfig | ClassifierConfig,
    too_long: TooLong,
    name: str,
) -> Words:
    """The tokens of sentences given as words, between those of a start and an end unless words are pooled early.

    Raises ValueError for a sentence with more tokens, or words that are pooled early, than the context.
    """
    before, after = frame_ids(tokenizer, shape.vocab_size)
    words = Ragged.of([np.arange(len(sentence)) for sentence in sentences])
    if shape.words == "early-mean":
        kept = limited(words, shape.context, shape.context, too_long, name)
        short = [sentence[:length] for sentence, length in zip(sentences, kept.lengths.tolist(), strict=True)]
        ids, places, read = *_tokens(tokenizer, short, before, after), kept.lengths
    else:
        room = shape.context - len(before) - len(after)
        every, places = _tokens(tokenizer, sentences, before, after)
        ids, places = limited(every, room, shape.context, too_long, name), places.cut(room)
        last = np.array([max(places[row], default=BETWEEN) + 1 for row in range(len(places))], np.int64)
        read = np.where(ids.lengths < every.lengths, last, words.lengths)
    if lost := int((words.lengths - read).sum()):
        notice(f"{lost:,} words of what was cut are left out ({name})")
    if shape.words == "early-mean":
        return Words(ids, places, np.maximum(1, read), read)
    ids, places = ids.wrapped(before, after), places.wrapped([BETWEEN] * len(before), [BETWEEN] * len(after))
    return Words(ids, places, ids.lengths, read)


def _tokens(
    tokenizer: Tokenizer, sentences: Sequence[Sequence[str]], before: Sequence[int], after: Sequence[int]
) -> tuple[Ragged, Ragged]:
    """The tokens of sentences without their frames, and the place of each one's word, or BETWEEN.

    A tokenizer whose files say how texts are framed says how words are encoded as well; with any other each word is
    encoded by itself.
    """
    if any(tokenizer.frame):
        pairs = [tokenizer.encode_words(sentence) for sentence in sentences]
        inner = [[part[len(before) : len(part) - len(after)] for part in pair] for pair in pairs]
        return Ragged.of([ids for ids, _ in inner]), Ragged.of([places for _, places in inner])
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(w for s in sentences for w in s))}
    pieces = encode_all(tokenizer, [*map(spaced(tokenizer), vocabulary)], name="word")
    return spread(pieces, Ragged.of([[vocabulary[word] for word in sentence] for sentence in sentences]))


def spread(pieces: Ragged, numbers: Ragged) -> tuple[Ragged, Ragged]:
    """The tokens of sentences from those of each word in the vocabulary, and the place of each token's word.

    numbers: the words of each sentence, by their numbers in `pieces`
    """
    each = pieces.lengths[numbers.values]  # tokens of each word: (N,)
    ends = np.concatenate(([0], each.cumsum()))
    inside = np.arange(ends[-1]) - np.repeat(ends[:-1], each)
    ids = pieces.values[np.repeat(pieces.starts[numbers.values], each) + inside]
    place = np.arange(len(each)) - np.repeat(numbers.starts, numbers.lengths)
    return Ragged(ids, ends[numbers.ends]), Ragged(np.repeat(place, each).astype(np.int32), ends[numbers.ends])


def spaced(tokenizer: Tokenizer) -> Any:
    """How a word is written for a tokenizer: with the space before it, where that is a part of tokens."""
    return " {}".format if isinstance(tokenizer, BPETokenizer) and not tokenizer.prefix else str
