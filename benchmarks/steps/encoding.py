"""Vectors of the same texts by the same weights, read from one public folder; ours and sentence-transformers'."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import torch

from benchmarks.peers.sentence_encoding import Encode, installed, its_loop, package_encoder
from core.devices import keep_freed_memory
from text.trained import load_public
from text.using.given import ready_model
from text.using.text_encoder import TextEncoder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TYPICAL, SPREAD, MOST = 24, 0.9, 250
"""Words of a text: the median, the deviation of their logarithm, and the most."""


def texts_of(words: Sequence[str], count: int, seed: int) -> list[str]:
    """Texts of random words, as many as log-normal lengths say."""
    random = np.random.default_rng(seed)
    lengths = np.clip(TYPICAL * np.exp(SPREAD * random.standard_normal(count)), 1, MOST).astype(int)
    return [" ".join(words[place] for place in random.integers(0, len(words), length)) for length in lengths]


def words_of(folder: Path) -> list[str]:
    """The words that are one token."""
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    return [line for line in lines if line.isascii() and line.isalpha() and line.islower()]


def random_model(folder: Path, tiny: bool, seed: int) -> None:
    """A BERT in the shape of MiniLM-L6 with random weights and a vocabulary of three letters each."""
    from transformers import BertConfig, BertModel, BertTokenizerFast  # type: ignore[attr-defined]

    vocabulary = [*SPECIAL, *("".join(letters) for letters in product(ascii_lowercase, repeat=2 if tiny else 3))]
    sizes = (32, 2, 2, 48) if tiny else (384, 6, 12, 1536)
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    torch.manual_seed(seed)
    settings: dict[str, Any] = dict(zip(names, sizes, strict=True))
    BertModel(BertConfig(vocab_size=len(vocabulary), **settings)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)


def our_encoder(folder: str, precision: Any) -> Encode:
    """As `text.embed` does it."""
    trained = load_public(folder)
    encoder = TextEncoder(ready_model(trained, precision), trained.tokenizer, trained.device)
    return encoder.encode


def their_encoder(folder: str, precision: str) -> Encode:
    """The package where it is installed."""
    assert precision == "fp32"
    return package_encoder(folder) if installed() else its_loop(folder)


SIDES = {"ours": our_encoder, "theirs": their_encoder}


def encode(seed: int, side: str, folder: str, texts: int, precision: str, result: str) -> dict[str, float]:
    """Encodes texts of many lengths, and leaves their vectors in the file `result`."""
    keep_freed_memory()
    vectors_of, given = SIDES[side](folder, precision), texts_of(words_of(Path(folder)), texts, seed)
    vectors_of(given[:4])  # unmeasured: libraries start
    wall, core = time.perf_counter(), time.process_time()
    vectors = vectors_of(given)
    wall, core = time.perf_counter() - wall, time.process_time() - core
    np.save(result, vectors)
    return {"encoding_core_seconds": core, "encoding_seconds": wall, "texts_per_core_second": texts / core}
