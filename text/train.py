"""Train a text model.

python -m text.train PRESET --data NAME_OR_PATH --out DIR [--any.config.field VALUE ...]
python -m text.train --out DIR --resume
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from core.generate import Sampling, complete
from core.training.cli import main, parse
from core.training.optimizers import build_optimizer
from core.training.run import Run
from text.config import TrainConfig
from text.data import Corpus, TrainingWindows, load_corpus
from text.evaluate import evaluate
from text.models import GPT, IGNORED, NextTokenLoss
from text.presets import PRESETS
from text.pretrained import load_pretrained, pretrained_folder, read_family
from text.tokenizers import Tokenizer, load_tokenizer


def train(config: TrainConfig) -> dict[str, Any]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    corpus, config = prepare(config)
    windows = TrainingWindows(corpus.train, config.model.context, config.batch_size, config.seed, config.sampling)
    figures: dict[str, Any] = {}
    with Run(config, unit="tokens") as run:
        if run.main:
            keep_tokenizer(corpus.tokenizer, run.folder)
        model = load_pretrained(config.init_from) if config.init_from else GPT(config.model)
        objective = run.prepare(NextTokenLoss(model), model, build_optimizer(model, config.optimizer))
        for _, batch in run.steps(windows.batch):
            run.backward(objective, batch, count=real_targets)
            run.update()
            if run.due("eval"):
                with run.evaluating():
                    figures = evaluate_now(run, objective, corpus, config)
                    write_sample(run, model, corpus, config)
                run.log(figures, best="val/loss")
    return figures


def prepare(config: TrainConfig) -> tuple[Corpus, TrainConfig]:
    """The text, and the configuration with everything filled in that depends on it or on a public model."""
    if config.init_from:
        folder = pretrained_folder(config.init_from)
        tokenizer = load_tokenizer(folder) if config.tokenizer == "char" else config.tokenizer
        corpus = load_corpus(config.data, tokenizer, vocab_size=config.bpe_size, validation=config.validation)
        return corpus, replace(config, model=read_family(folder).config())
    corpus = load_corpus(config.data, config.tokenizer, vocab_size=config.bpe_size, validation=config.validation)
    size, given = corpus.tokenizer.vocab_size, config.model.vocab_size
    if given and given < size:
        raise ValueError(f"model.vocab_size = {given} is below the {size} tokens of the tokenizer")
    return corpus, replace(config, model=replace(config.model, vocab_size=given or size))


def keep_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Saves the tokenizer with the run; ValueError when the run has another one, its text having changed."""
    if (folder / "tokenizer.json").exists() and load_tokenizer(folder) != tokenizer:
        raise ValueError(f"{folder} was trained with another tokenizer: the text in --data is not the same any more")
    tokenizer.save(folder)


def real_targets(ids: Tensor, targets: Tensor) -> Tensor:
    """How many targets of a micro-batch count."""
    return (targets != IGNORED).sum()


def evaluate_now(run: Run, objective: nn.Module, corpus: Corpus, config: TrainConfig) -> dict[str, float]:
    """The whole held-out text, shared among the processes."""
    return evaluate(
        objective,
        corpus,
        config.model.context,
        config.eval_batch,
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
    path.write_text(corpus.tokenizer.decode(prompt + new), encoding="utf-8")


if __name__ == "__main__":
    main(lambda: train(parse(TrainConfig, PRESETS, description="Trains a text model.")))
