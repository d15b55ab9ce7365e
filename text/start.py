"""What a training starts from: its task, its first model, and its configuration with every default filled in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from core.training.checkpoints import read_config
from core.training.folder import resume_point
from core.training.trained import matches_data
from text.config import TrainConfig
from text.corpus.load import load_corpus
from text.corpus.windows import validation_batches
from text.models.config import GPTConfig
from text.models.gpt import GPT
from text.pretrained.load import load_pretrained, pretrained_folder, read_family
from text.tasks.language_modelling import LanguageModelling
from text.tasks.task import TextTask
from text.tokens.base import FILE, Tokenizer
from text.tokens.load import load_tokenizer


@dataclass(frozen=True)
class Start:
    """config: complete. build_model: makes the model as it is before the first step."""

    config: TrainConfig
    task: TextTask
    build_model: Callable[[], nn.Module]


def prepare(config: TrainConfig) -> Start:
    """Reads the text and the shape of the model. Raises ValueError for what cannot be trained."""
    tokenizer = choose_tokenizer(config)
    bpe_size = config.bpe_size if tokenizer == "bpe" else None
    corpus = load_corpus(config.data, tokenizer, vocab_size=bpe_size, validation=config.validation)
    if config.resume and not matches_data(config.out, corpus.sha256):
        raise ValueError(f"data = {config.data!r} is not the text that {config.out} was trained on, or has changed")
    config = replace(config, model=complete_shape(choose_shape(config), corpus.tokenizer))
    validation_batches(corpus.validation, config.model.context, batch_size=1)  # refuses a text that is too short now
    return Start(config, LanguageModelling(corpus, config), lambda: initial_model(config))


def choose_tokenizer(config: TrainConfig) -> Tokenizer | str:
    """A resumed run's own, else the one named, else that of the public model to start from."""
    if config.resume and (config.out / FILE).exists():
        return load_tokenizer(config.out)
    if config.init_from and not config.tokenizer:
        return load_tokenizer(pretrained_folder(config.init_from))
    return config.tokenizer or "char"


def choose_shape(config: TrainConfig) -> GPTConfig:
    """The model's shape: a resumed run's own, or that of the public model to start from, or the one configured."""
    if not config.init_from:
        return config.model
    if config.resume:
        return read_config(config.out, TrainConfig).model
    return read_family(pretrained_folder(config.init_from)).to_config()


def complete_shape(model: GPTConfig, tokenizer: Tokenizer) -> GPTConfig:
    """The shape with the size of its vocabulary. Raises ValueError if that has no room for the tokenizer's."""
    if model.vocab_size and model.vocab_size < tokenizer.vocab_size:
        raise ValueError(
            f"model.vocab_size = {model.vocab_size} must be at least the tokenizer's {tokenizer.vocab_size}"
        )
    return replace(model, vocab_size=model.vocab_size or tokenizer.vocab_size)


def initial_model(config: TrainConfig) -> GPT:
    """A public model or a random one; a resumed run restores its checkpoint into it later."""
    public = config.init_from and resume_point(config) is None
    return load_pretrained(config.init_from) if public else GPT(config.model)
