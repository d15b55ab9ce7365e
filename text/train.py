"""Train a text model.

python -m text.train PRESET --data NAME_OR_PATH --out DIR [--any.config.field VALUE ...]
python -m text.train --out DIR --resume
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from core.cli.arguments import main, parse
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.optim.groups import build_optimizer
from core.training.checkpoints import read_config
from core.training.folder import resume_point
from core.training.run import Run
from text.config import TrainConfig
from text.corpus.windows import Corpus, TrainingWindows, load_corpus, validation_batches
from text.evaluate import evaluate, rows_at_once
from text.models.gpt import GPT, IGNORED, GPTConfig, NextTokenLoss
from text.presets import PRESETS
from text.pretrained.load import load_pretrained, pretrained_folder, read_family
from text.tokens.base import FILE as TOKENIZER
from text.tokens.base import Tokenizer, load_tokenizer
from text.trained import matches_data, save_data_record


def train(config: TrainConfig) -> dict[str, Any]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    corpus, config = prepare(config)
    windows = TrainingWindows(corpus.train, config.model.context, config.batch_size, config.seed, config.sampling)
    figures: dict[str, Any] = {}
    with Run(config, unit="tokens") as run:
        model = first_model(config)
        optimizer = build_optimizer(model, config.optimizer)
        if run.main:
            save_data_record(corpus, run.folder)
        objective = run.prepare(NextTokenLoss(model), model, optimizer)
        log_summary(run, model, corpus)
        for _, batch in run.steps(windows.batch):
            run.backward(objective, batch, count=real_targets)
            run.update()
            if run.due("eval"):
                with run.evaluating():
                    figures = evaluate_now(run, objective, corpus, config)
                    write_sample(run, model, corpus, config)
                run.log(figures, best="val/loss")
        run.progress.say(f"done; let it write with: python -m text.sample {shlex.quote(str(run.folder))}")
    return figures


def prepare(config: TrainConfig) -> tuple[Corpus, TrainConfig]:
    """The text, and the configuration with everything filled in that depends on it or on a public model."""
    tokenizer = choose_tokenizer(config)
    learned = config.bpe_size if tokenizer == "bpe" else None
    corpus = load_corpus(config.data, tokenizer, vocab_size=learned, validation=config.validation)
    if config.resume and not matches_data(config.out, corpus):
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


def log_summary(run: Run, model: GPT, corpus: Corpus) -> None:
    """Says what is trained on what, and where."""
    precision = run.accelerator.mixed_precision.replace("no", "fp32")
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    run.progress.say(
        f"{corpus.name}: {len(corpus.train):,} tokens to learn from, {len(corpus.validation):,} held out, "
        f"{corpus.tokenizer.vocab_size:,} different ones\n"
        f"{millions:.2f} M parameters on {run.device.type} in {precision}; the run is in {run.folder}"
    )


def real_targets(ids: Tensor, targets: Tensor) -> Tensor:
    """How many targets of a micro-batch count."""
    return (targets != IGNORED).sum()


def evaluate_now(run: Run, objective: nn.Module, corpus: Corpus, config: TrainConfig) -> dict[str, float]:
    """The whole held-out text, shared among the processes."""
    return evaluate(
        objective,
        corpus,
        config.model.context,
        config.eval_batch or rows_at_once(config.model),
        device=run.device,
        share=(run.rank, run.world),
        reduce=run.total,
    )


def write_sample(run: Run, model: GPT, corpus: Corpus, config: TrainConfig) -> None:
    """What the model writes by now, after the first words of the held-out text: samples/step-*.txt."""
    if not (run.main and config.sample):
        return
    prompt = [int(token) for token in corpus.validation[:16]]
    [new] = complete(model, [prompt], config.sample, Sampling(temperature=0.8), seeds=[config.seed], device=run.device)
    path = run.folder / "samples" / f"step-{run.step:08d}.txt"
    path.parent.mkdir(exist_ok=True)
    known = [token for token in prompt + new if token < corpus.tokenizer.vocab_size]  # the model's may be more
    path.write_text(corpus.tokenizer.decode(known), encoding="utf-8")


if __name__ == "__main__":
    main(lambda: train(parse(TrainConfig, PRESETS, description="Trains a text model.")))
