"""Train a text model.

python -m text.train PRESET --data NAME_OR_PATH --out DIR [--any.config.field VALUE ...]
python -m text.train --out DIR --resume
"""

import shlex
from dataclasses import replace
from functools import partial
from typing import Any

from core.cli.exits import main
from core.optim.groups import build_optimizer
from core.training.checkpoints import read_config
from core.training.command import parse
from core.training.config import with_steps
from core.training.folder import resume_point
from core.training.run import Run
from core.training.trained import matches_data
from text.config import TrainConfig
from text.corpus.load import load_corpus
from text.corpus.windows import validation_batches
from text.models.gpt import GPT, GPTConfig
from text.presets import PRESETS
from text.pretrained.start import differs_freely, start_shape, start_tokenizer
from text.tasks.language_modelling import LanguageModelling
from text.tokens.base import FILE, Tokenizer
from text.tokens.load import load_tokenizer
from text.trained import load_start


def train(config: TrainConfig) -> dict[str, Any]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    config, task = prepare(config)
    figures: dict[str, Any] = {}
    with Run(config, unit=task.unit) as run:
        started = config.init_from and resume_point(config) is None  # a resumed run restores its checkpoint later
        model = load_start(config.init_from, config.model) if started else GPT(config.model)
        if run.main:
            task.save_data(run.folder)
        objective = run.prepare(task.objective(model), model, partial(build_optimizer, config=config.optimizer))
        run.log_summary(task.summary())
        for _, batch in run.steps(task.order):
            run.update(run.backward(objective, batch, count=task.count))
            if run.due("eval"):
                with run.evaluating():
                    figures = task.evaluate(run)
                    task.show(run)
                run.log(figures, best=task.best, mode=task.mode)
        run.progress.say(f"done; {task.use} {shlex.quote(str(run.folder))}")
    return figures


def prepare(config: TrainConfig) -> tuple[TrainConfig, LanguageModelling]:
    """The configuration with the model's whole shape, and its task. Raises ValueError for what cannot be trained."""
    tokenizer = choose_tokenizer(config)
    learned = config.bpe_size if tokenizer in ("bpe", "wordpiece") else None  # a resumed run has its tokenizer already
    corpus = load_corpus(config.data, tokenizer, vocab_size=learned, validation=config.held_out, reading=config.reading)
    if config.resume and not matches_data(config.out, corpus.sha256):
        raise ValueError(f"data = {config.data!r} is not the text that {config.out} was trained on, or has changed")
    shape, size = choose_shape(config), corpus.tokenizer.vocab_size
    if 0 < shape.vocab_size < size:
        raise ValueError(f"model.vocab_size = {shape.vocab_size} must be at least the tokenizer's {size}")
    config = replace(config, model=replace(shape, vocab_size=shape.vocab_size or size))
    validation_batches(corpus.validation, config.model.context, batch_size=1)  # refuses a text that is too short now
    task = LanguageModelling(corpus, config)
    return with_steps(config, task.windows.items), task


def choose_tokenizer(config: TrainConfig) -> Tokenizer | str:
    """A resumed run's own, else that of the model to start from, else the one named."""
    if config.resume and (config.out / FILE).exists():
        return load_tokenizer(config.out)
    if config.init_from:
        return start_tokenizer(config.init_from, config.tokenizer)
    return config.tokenizer or "char"


def choose_shape(config: TrainConfig) -> GPTConfig:
    """The model's shape: a resumed run's own, or that of the model to start from, or the one configured."""
    if not config.init_from:
        return config.model
    if config.resume:
        return read_config(config.out, TrainConfig).model
    own = start_shape(config.init_from, GPTConfig)
    return config.model if differs_freely(config.model, own) else own


if __name__ == "__main__":
    main(lambda: train(parse(TrainConfig, PRESETS, description="Trains a text model.")))
