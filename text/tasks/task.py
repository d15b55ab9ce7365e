"""What `text.train` needs of a task."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from core.training.checkpoints import read_config
from core.training.run import Run
from core.training.task import Task
from core.training.trained import matches_data
from text.config import EvaluateConfig, TextConfig
from text.corpus.batches import LengthBatches
from text.models.build import build_model
from text.pretrained.start import differs_freely, start_shape, start_tokenizer
from text.tasks.configs import CONFIGS
from text.tokens.base import FILE, Tokenizer
from text.tokens.load import load_tokenizer
from text.trained import Trained, load_start, untrained, with_adapters

Config = TypeVar("Config", bound=TextConfig)


class TextTask(Task, Protocol):
    """A data set, an objective and a metric; it knows the whole configuration of its run."""

    config: Any
    """The configuration of the run, with what the data and the weights to start from decide filled in."""
    use: str
    """How to use what was trained: a sentence that the run folder follows."""

    @classmethod
    def prepare(cls, config: Any) -> Self:
        """Reads the data. Raises ValueError for what cannot be trained."""

    @classmethod
    def evaluate_trained(cls, trained: Trained, folder: Path, options: EvaluateConfig) -> tuple[str, dict[str, float]]:
        """What a trained model is evaluated on, in a few words, and its metrics. Raises ValueError for bad options."""

    def save_data(self, folder: Path) -> None:
        """Keeps in a run folder what is needed to use the model, and what it was trained on."""

    def show(self, run: Run) -> None:
        """Writes something to look at into the run folder, after an evaluation."""


def starting_model(config: TextConfig, started: bool) -> Any:
    """The model that training begins with: a new one, or one that has `started` from the weights of another."""
    plain = started and config.adapter.kind == "none"
    return load_start(config.init_from, config.model) if plain else untrained(config)


def planned_model(config: TextConfig) -> Any:
    """The same model without the weights that it starts from."""
    return with_adapters(build_model(config.model), config)


def check_same_data(config: TextConfig, fingerprint: str) -> None:
    """Raises ValueError where a run is resumed with other data than it was trained on."""
    if config.resume and not matches_data(config.out, fingerprint):
        raise ValueError(f"data = {config.data!r} is not what {config.out} was trained on, or has changed")


def in_steps(config: Config, batches: LengthBatches) -> Config:
    """The configuration with its budget of epochs, if that is what it has, as a number of these batches."""
    if config.epochs is None:
        return config
    return replace(config, steps=max(1, batches.steps(config.epochs)), epochs=None)


def chosen_tokenizer(config: TextConfig, default: Tokenizer | str) -> Tokenizer | str:
    """A resumed run's own tokenizer, else that of the model to start from, else the one named, or `default`."""
    if config.resume and (config.out / FILE).exists():
        return load_tokenizer(config.out)
    if config.init_from:
        return start_tokenizer(config.init_from, config.tokenizer)
    return config.tokenizer or default


def chosen_shape(config: TextConfig, vocabulary: int) -> Any:
    """The model's shape, with at least so many tokens: a resumed run's, that of the model to start from, or its own."""
    shape = config.model
    if config.init_from and config.resume:
        shape = read_config(config.out, CONFIGS).model
    elif config.init_from and not differs_freely(shape, own := start_shape(config.init_from, shape)):
        shape = own
    if 0 < shape.vocab_size < vocabulary:
        raise ValueError(f"model.vocab_size = {shape.vocab_size} must be at least the tokenizer's {vocabulary}")
    return replace(shape, vocab_size=shape.vocab_size or vocabulary)
