"""A trained text model, brought back from its run folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from core.files.json_files import read_json, write_json
from core.training.checkpoints import load_model, read_config
from text.config import TrainConfig
from text.corpus.load import Corpus
from text.models.gpt import GPT
from text.tokens.base import Tokenizer, load_tokenizer

TEXT = "text.json"
"""What text a run learns from, in its folder."""


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode with what it needs to be used."""

    model: GPT
    tokenizer: Tokenizer
    config: TrainConfig
    step: int
    device: torch.device


def load(folder: Path | str, which: str | int = "best", device: str = "cpu") -> Trained:
    """The model of a run folder: checkpoint "best", "last", "last-good" or a step; averaged weights if it has any.

    Raises ValueError naming the file that is missing, damaged or of another version.
    """
    folder = Path(folder)
    config = read_config(folder, TrainConfig)
    tokenizer = load_tokenizer(folder)
    model, step = load_model(folder, which, lambda: GPT(config.model))
    return Trained(model.to(device), tokenizer, config, step, torch.device(device))


def load_public(name_or_path: str, device: str = "cpu") -> Trained:
    """A public model in Hugging Face's layout, with its tokenizer (see `text.pretrained.load`)."""
    from text.pretrained.load import load_pretrained, pretrained_folder

    folder = pretrained_folder(name_or_path)
    model, tokenizer = load_pretrained(folder), load_tokenizer(folder)
    config = TrainConfig(steps=1, init_from=name_or_path, tokenizer=str(folder), model=model.config)
    return Trained(model.to(device).eval(), tokenizer, config, 0, torch.device(device))


def save_data_record(corpus: Corpus, folder: Path) -> None:
    """Keeps in a run folder the tokenizer, and what the text was."""
    corpus.tokenizer.save(folder)
    sizes = {"train": asdict(corpus.train_size), "validation": asdict(corpus.val_size)}
    write_json(folder / TEXT, {"data": corpus.name, "sha256": corpus.sha256} | sizes)


def matches_data(folder: Path, corpus: Corpus) -> bool:
    """Whether a text is the one that a run learns from; also where nothing is remembered."""
    record = folder / TEXT
    return not record.exists() or read_json(record).get("sha256") == corpus.sha256
