"""A trained model of texts put to use: texts in, a vector for each of them out."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.messages import notice
from core.training.order import Indices
from text.corpus.batches import restored, snug_batches
from text.corpus.sequences import Ragged, encode_all, frame_ids
from text.models.encoder import Embedder, EmbedderConfig, EncoderModel
from text.models.gpt import GPT
from text.tokens.base import Tokenizer

Vectors = NDArray[np.float32]
LEAST = 1e-12  # a length below which a vector remains as short as it is


class TextEncoder:
    """Gives texts vectors of length 1 with a model and its tokenizer.

    rows: texts at once. too_long: whether a text of more tokens than the model is meant to read is refused, or read up
    to there, with a notice of how many are.

    A text is read between the tokens of a start and an end, as far as the model has them. Texts of about equal length
    are read together, and none sees padding: its vector does not depend on the others, on their order or on `rows`.
    """

    def __init__(
        self, model: Any, tokenizer: Tokenizer, device: torch.device | str = "cpu", *, rows: int = 64,
        too_long: Literal["refuse", "truncate"] = "truncate",
    ):  # fmt: skip
        self.model, self.tokenizer, self.device = as_embedder(model), tokenizer, torch.device(device)
        self.rows, self.too_long = rows, too_long

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Vectors:
        """float32 (n, D), each of length 1. progress: whether a bar is shown on standard error.

        Raises ValueError for a text that is too long, where that is refused.
        """
        if not len(texts):
            return np.empty((0, self.model.config.core.dim), np.float32)
        return self.encode_tokens(frame(self.tokenizer, texts, self.model.config, self.too_long), progress=progress)

    def encode_tokens(self, tokens: Ragged, *, progress: bool = False) -> Vectors:
        """The same for texts as tokens, with those that begin and end them."""
        from tqdm import tqdm

        batches = snug_batches(tokens.lengths, self.rows)
        with tqdm(total=len(tokens), unit="text", delay=1, disable=None if progress else True) as bar:
            found: list[list[Vectors]] = []
            for batch in batches:
                found.append([*self._batch(tokens, batch)])
                bar.update(len(batch))
        return np.stack(restored(batches, found, len(tokens)))

    @torch.inference_mode()
    def _batch(self, tokens: Ragged, rows: Indices) -> Vectors:
        ids, lengths = tokens.padded(rows, 0)
        alike = bool((lengths == lengths[0]).all())
        vectors = self.model(ids.to(self.device), None if alike else lengths.to(self.device)).float().cpu().numpy()
        return normalised(vectors)


def as_embedder(model: nn.Module) -> Embedder:
    """A model that gives vectors: itself, or the encoder of another, the mean of whose tokens is taken, with a notice.

    Raises ValueError for a model without an encoder.
    """
    if isinstance(model, Embedder):
        return model
    if not isinstance(model, EncoderModel):
        kind = "generates text" if isinstance(model, GPT) else "is no encoder"
        raise ValueError(f"a model that gives vectors is needed, and this one {kind}: {type(model).__name__}")
    notice(f"{type(model).__name__} was not trained to give vectors: the mean of its tokens is taken")
    own = model.config
    shape = EmbedderConfig(vocab_size=own.vocab_size, context=own.context, types=own.types, core=own.core)
    embedder = Embedder(shape)
    embedder.start_from(model)
    return embedder.to(next(model.parameters()).device).train(model.training)


def frame(
    tokenizer: Tokenizer, texts: Sequence[str], shape: EmbedderConfig, too_long: Literal["refuse", "truncate"]
) -> Ragged:
    """The tokens of texts between those of a start and an end, which a vocabulary may lack."""
    before, after = frame_ids(tokenizer, shape.vocab_size)
    longest = shape.max_tokens or shape.context
    return encode_all(tokenizer, texts, before=before, after=after, longest=longest, too_long=too_long)


def normalised(vectors: Vectors) -> Vectors:
    """Each vector divided by its length: (n, D); one of zeros remains so."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), LEAST)


def nearest(query: Vectors, vectors: Vectors, count: int) -> list[tuple[int, float]]:
    """The places of the vectors nearest to a query (D,), of (n, D), and their cosines: the nearest first."""
    cosines = vectors @ query
    order = np.argsort(-cosines, kind="stable")[:count]
    return [(int(place), float(cosines[place])) for place in order]
