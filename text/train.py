"""Train a text model.

python -m text.train PRESET --data NAME_OR_PATH --out DIR [--any.config.field VALUE ...]
python -m text.train --out DIR --resume
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from typing import Any

from core.cli.exits import main
from core.optim.groups import build_optimizer
from core.training.checkpoints import read_config
from core.training.command import parse
from core.training.folder import resume_point
from core.training.run import Run
from core.training.trained import matches_data
from text.config import TrainConfig
from text.corpus.load import Corpus, load_corpus
from text.corpus.windows import validation_batches
from text.models.gpt import GPT, GPTConfig
from text.presets import PRESETS
from text.pretrained.load import load_pretrained, pretrained_folder, read_family
from text.tasks.language_modelling import LanguageModelling
from text.tokens.base import FILE as TOKENIZER
from text.tokens.base import Tokenizer, load_tokenizer
from text.trained import save_data_record


def train(config: TrainConfig) -> dict[str, Any]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    corpus, config = prepare(config)
    task = LanguageModelling(corpus, config)
    figures: dict[str, Any] = {}
    with Run(config, unit=task.unit) as run:
        model = first_model(config)
        if run.main:
            save_data_record(run.folder, corpus)
        objective = run.prepare(task.objective(model), model, partial(build_optimizer, config=config.optimizer))
        run.log_summary(task.summary())
        for _, batch in run.steps(task.order):
            run.update(run.backward(objective, batch, count=task.count))
            if run.due("eval"):
                with run.evaluating():
                    figures = task.evaluate(run)
                    task.write_sample(run)
                run.log(figures, best=task.best, mode=task.mode)
        run.progress.say(f"done; let it write with: python -m text.sample {shlex.quote(str(run.folder))}")
    return figures


def prepare(config: TrainConfig) -> tuple[Corpus, TrainConfig]:
    """The text, and the configuration with everything filled in that depends on it or on a public model."""
    tokenizer = choose_tokenizer(config)
    learned = config.bpe_size if tokenizer == "bpe" else None
    corpus = load_corpus(config.data, tokenizer, vocab_size=learned, validation=config.validation)
    if config.resume and not matches_data(config.out, corpus.sha256):
        raise ValueError(f"{config.out} was trained on another text: what --data names is not the same any more")
    model, size = choose_shape(config), corpus.tokenizer.vocab_size
    if model.vocab_size and model.vocab_size < size:
        raise ValueError(f"model.vocab_size = {model.vocab_size} is below the {size} tokens of the tokenizer")
    validation_batches(corpus.validation, model.context, batch_size=1)  # refuses too short a text now, not later
    return corpus, replace(config, model=replace(model, vocab_size=model.vocab_size or size))


def choose_tokenizer(config: TrainConfig) -> Tokenizer | str:
    """A resumed run's own, else the one named, else that of the public model to start from."""
    if config.resume and (config.out / TOKENIZER).exists():
        return load_tokenizer(config.out)
    if config.init_from and not config.tokenizer:
        return load_tokenizer(pretrained_folder(config.init_from))
    return config.tokenizer or "char"


def choose_shape(config: TrainConfig) -> GPTConfig:
    """The model's shape: a resumed run's own, or that of the public model to start from, or the one described."""
    if not config.init_from:
        return config.model
    if config.resume:
        return read_config(config.out, TrainConfig).model
    return read_family(pretrained_folder(config.init_from)).config()


def first_model(config: TrainConfig) -> GPT:
    """The model that training starts from; what a checkpoint holds comes later."""
    public = config.init_from and resume_point(config) is None
    return load_pretrained(config.init_from) if public else GPT(config.model)


if __name__ == "__main__":
    main(lambda: train(parse(TrainConfig, PRESETS, description="Trains a text model.")))
