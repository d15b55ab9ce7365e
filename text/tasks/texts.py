"""Running texts: what a run is trained on, and what a trained model is evaluated on."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from core.files.downloads import data_root
from core.messages import notice
from core.training.trained import matches_data, save_data_record
from text.config import CorpusConfig, EvaluateConfig
from text.corpus.documents import Reading
from text.corpus.load import HASHES, Corpus, Size, Special, load_corpus
from text.corpus.shards import Joined, Mixture, TokenFolder, token_folders
from text.corpus.sources import Data
from text.tasks.task import chosen_tokenizer
from text.tokens.base import Tokenizer
from text.tokens.load import load_tokenizer, published_gpt2
from text.trained import Trained


def read_text(config: CorpusConfig, special: Special = "end", bpe_size: int | None = None) -> Corpus:
    """The text of a run. special, bpe_size: of a byte-pair encoding that is learned, see `load_corpus`.

    Raises ValueError for bad data, and where a run is resumed with another text.
    """
    folders = token_folders(config.data)
    choice = chosen_tokenizer(config, load_tokenizer(folders[0]) if folders else config.default_tokenizer)
    learned = choice in ("bpe", "wordpiece")  # a resumed run has its tokenizer already
    size = (config.bpe_size or bpe_size) if learned else None
    learning = {"vocab_size": size, "special": special}
    corpus = corpus_of(config.data, choice, config.held_out, config.reading, config.data_weights, **learning)
    if config.resume and not matches_data(config.out, corpus.sha256):
        raise ValueError(f"data = {config.data!r} is not the text that {config.out} was trained on, or has changed")
    return corpus


def corpus_of(
    data: Data,
    tokenizer: Tokenizer | str,
    validation: float | Data,
    reading: Reading,
    weights: Sequence[float] = (),
    **learning: Any,
) -> Corpus:
    """A text, tokenised now, or before: then `data` names the folders that `text.tokenize` has made.

    weights: of folders, in which shares windows are drawn from them; else they are one text, in order
    learning: of a tokenizer that is learned, see `load_corpus`
    """
    if folders := token_folders(data):
        return _joined(folders, tokenizer, validation, reading, weights)
    if weights:
        raise ValueError("data_weights needs tokens: make them from each of the texts with python -m text.tokenize")
    return load_corpus(data, tokenizer, validation=validation, reading=reading, **learning)


def _joined(
    paths: Sequence[Path],
    tokenizer: Tokenizer | str,
    validation: float | Data,
    reading: Reading,
    weights: Sequence[float],
) -> Corpus:
    """The text of several folders of tokens, of each of which the same fraction is held out, or else other data."""
    folders = [TokenFolder.open(path, data_root() / "cache" / "text" / HASHES) for path in paths]
    own = _common_tokenizer(folders, tokenizer)
    fraction = validation if isinstance(validation, (int, float)) else 0.0
    cuts = [folder.last(fraction, own.eos) for folder in folders]
    parts = [folder.tokens.between(0, cut) for folder, cut in zip(folders, cuts, strict=True)]
    train = Mixture(tuple(parts), tuple(weights)) if weights else _one(parts)
    pairs = list(zip(folders, cuts, strict=True))
    held = _one([folder.tokens.between(cut, len(folder.tokens)) for folder, cut in pairs])
    held_size = _sum([Size(**folder.size_from(cut, own)) for folder, cut in pairs])
    every = _sum([Size(**folder.size_from(0, own)) for folder in folders])
    train_size = Size(*(a - b for a, b in zip(asdict(every).values(), asdict(held_size).values(), strict=True)))
    fingerprint, name = "".join(folder.fingerprint for folder in folders), ", ".join(map(str, paths))
    if isinstance(validation, (int, float)):
        return Corpus(name, own, train, held, train_size, held_size, hashlib.sha256(fingerprint.encode()).hexdigest())
    other = corpus_of(validation, own, 1.0, reading)
    both = hashlib.sha256((fingerprint + other.sha256).encode()).hexdigest()
    return Corpus(name, own, train, other.validation, train_size, other.val_size, both)


def _one(parts: Sequence[Joined]) -> Joined:
    return Joined([array for part in parts for array in part.parts])


def _sum(sizes: Sequence[Size]) -> Size:
    return Size(*np.sum([[*asdict(size).values()] for size in sizes], axis=0).tolist())


def _common_tokenizer(folders: Sequence[TokenFolder], choice: Tokenizer | str) -> Tokenizer:
    """That of all folders. Raises ValueError where there are several, or another is asked for."""
    own = folders[0].tokenizer
    for folder in folders[1:]:
        if folder.tokenizer != own:
            raise ValueError(f"{folder.folder} was made with another tokenizer than {folders[0].folder}")
    if choice == "gpt2":
        choice = published_gpt2()
    elif isinstance(choice, str) and Path(choice).exists():
        choice = load_tokenizer(choice)
    if choice != own:
        raise ValueError(f"{folders[0].folder} holds tokens of another tokenizer than the one asked for, {choice!r}")
    return own


def save_text(folder: Path, corpus: Corpus, tokenizer: Tokenizer) -> None:
    """Keeps the tokenizer in a run folder, and what the text was."""
    tokenizer.save(folder)
    sizes = {"train": asdict(corpus.train_size), "validation": asdict(corpus.val_size)}
    save_data_record(folder, corpus.name, corpus.sha256, **sizes)


def load_text(trained: Trained, folder: Path, options: EvaluateConfig) -> Corpus:
    """The text to evaluate on. Raises ValueError where a public model is given none."""
    config, public = trained.config, not trained.step
    assert isinstance(config, CorpusConfig)
    if not options.data:
        if public:
            raise ValueError(f"data is missing: {folder} is a public model, which has no text of its own; name one")
        corpus = corpus_of(config.data, trained.tokenizer, config.held_out, config.reading)
        if not matches_data(folder, corpus.sha256):
            notice(f"{corpus.name} has changed since the run was trained on it")
        return corpus
    whole = options.part == "whole" or (options.part == "auto" and public)
    reading = Reading(options.column, options.separator, "skip" if options.skip_bad else "refuse")
    return corpus_of(options.data, trained.tokenizer, 1.0 if whole else config.validation, reading)


def part_name(corpus: Corpus) -> str:
    """What a text to evaluate on is, in a few words."""
    part = "held-out tokens" if len(corpus.train) else "tokens, all of it"
    return f"{corpus.name}: {corpus.val_size.tokens:,} {part}"
