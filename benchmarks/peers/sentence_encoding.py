"""sentence-transformers as a contestant, or, where it is not installed, what its `encode` does, with transformers."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

PACKAGE = "sentence_transformers"
BATCH = 32
"""Its default."""

Encode = Callable[[Sequence[str]], NDArray[Any]]


def installed() -> bool:
    """Whether the package itself is here."""
    return importlib.util.find_spec(PACKAGE) is not None


def package_encoder(folder: str) -> Encode:
    """Its own `encode` of a folder with its files: texts -> vectors of length 1."""
    model = importlib.import_module(PACKAGE).SentenceTransformer(folder, device="cpu")

    def encode(texts: Sequence[str]) -> NDArray[Any]:
        found: NDArray[Any] = model.encode([*texts], batch_size=BATCH, normalize_embeddings=True)
        return found

    return encode


def its_loop(folder: str, longest: int = 256) -> Encode:
    """The same steps: texts by their characters, the longest first, 32 at a time, padded; the mean of real tokens."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> NDArray[Any]:
        order = np.argsort([-len(text) for text in texts])
        found: list[torch.Tensor] = []
        for start in range(0, len(texts), BATCH):
            some = [texts[place] for place in order[start : start + BATCH]]
            batch = tokenizer(some, padding=True, truncation=True, max_length=longest, return_tensors="pt")
            real = batch["attention_mask"].unsqueeze(-1).float()  # (B, T, 1)
            mean = (model(**batch).last_hidden_state * real).sum(1) / real.sum(1).clamp(min=1e-9)  # (B, D)
            found.extend(torch.nn.functional.normalize(mean, dim=1))
        vectors: NDArray[Any] = torch.stack([found[place] for place in np.argsort(order)]).numpy()
        return vectors

    return encode
