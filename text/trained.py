"""A trained text model, brought back from its run folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from core.training import trained
from core.training.trained import TrainedRun, load_run
from text.config import TrainConfig
from text.corpus.load import Corpus
from text.models.gpt import GPT
from text.tokens.base import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class Trained(TrainedRun[GPT, TrainConfig]):
    """A model in evaluation mode with what it needs to be used."""

    tokenizer: Tokenizer


def load(folder: Path | str, which: str | int = "best", device: str = "cpu") -> Trained:
    """The model of a run folder and its tokenizer, see `core.training.trained.load_run`."""
    run = load_run(folder, TrainConfig, lambda config: GPT(config.model), which, device)
    return Trained(**vars(run), tokenizer=load_tokenizer(folder))


def load_public(name_or_path: str, device: str = "cpu") -> Trained:
    """A public model in Hugging Face's layout, with its tokenizer (see `text.pretrained.load`)."""
    from text.pretrained.load import load_pretrained, pretrained_folder

    folder = pretrained_folder(name_or_path)
    model, tokenizer = load_pretrained(folder), load_tokenizer(folder)
    config = TrainConfig(steps=1, init_from=name_or_path, tokenizer=str(folder), model=model.config)
    return Trained(model.to(device).eval(), config, 0, torch.device(device), tokenizer)


def save_data_record(folder: Path, corpus: Corpus) -> None:
    """Keeps in a run folder the tokenizer, and what the text was."""
    corpus.tokenizer.save(folder)
    sizes = {"train": asdict(corpus.train_size), "validation": asdict(corpus.val_size)}
    trained.save_data_record(folder, corpus.name, corpus.sha256, **sizes)
