"""Train an image model.

python -m vision.train PRESET --data NAME_OR_FOLDER --out DIR [--any.config.field VALUE ...]
python -m vision.train --out DIR --resume
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial

from core.cli.exits import main
from core.messages import notice
from core.optim.groups import build_optimizer
from core.training.checkpoints import read_config
from core.training.command import parse
from core.training.folder import resume_point
from core.training.run import Run
from core.training.trained import matches_data
from vision.config import TrainConfig
from vision.data.load import Data, Preparation, load_data
from vision.models.tokens import WhitenedPatchEmbedding
from vision.models.vit import ViT, ViTConfig
from vision.presets import PRESETS
from vision.pretrained.load import Pretrained, load_pretrained, read_pretrained
from vision.pretrained.resize import resized
from vision.tasks.classification import Classification
from vision.trained import save_data_record


def train(config: TrainConfig) -> dict[str, float]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    data, config = prepare(config)
    figures: dict[str, float] = {}
    with Run(config, unit=Classification.unit) as run:
        model = first_model(config, data)
        if run.main:
            save_data_record(run.folder, data)
        task = Classification(data, config, run.device)
        objective = run.prepare(task.objective(model), model, partial(build_optimizer, config=config.optimizer))
        run.log_summary(task.summary())
        for _, batch in run.steps(task.order):
            run.update(run.backward(objective, batch, count=task.count))
            if run.due("eval"):
                with run.evaluating():
                    figures = task.evaluate(run)
                run.log(figures, best=task.best, mode=task.mode)
        run.progress.say(f"done; judge it with: python -m vision.evaluate {shlex.quote(str(run.folder))}")
    return figures


def prepare(config: TrainConfig) -> tuple[Data, TrainConfig]:
    """The images, and the configuration with everything filled in that depends on them or on given weights."""
    begun = resume_point(config) is not None
    given = read_pretrained(config.init_from) if config.init_from and not begun else None
    shape = choose_shape(config, given)
    data = load_data(
        config.data,
        size=shape.image_size,
        channels=shape.channels or None,
        validation=config.validation,
        skip_bad=config.skip_bad,
        storage=config.storage,
    )
    if config.resume and not matches_data(config.out, data.fingerprint):
        raise ValueError(f"{config.out} was trained on other images: what --data names is not the same any more")
    if begun:
        data = replace(data, preparation=Preparation.load(config.out))
    elif given is not None:
        data = replace(data, preparation=given.prepared(data.preparation))
    found = data.preparation
    model = replace(shape, channels=found.channels, classes=len(found.classes))
    if config.coarse and not (model.continuous and model.side % 2 == 0):
        raise ValueError(
            f"coarse = {config.coarse} halves images: it needs coordinates = 'grid', positions that take fractions, "
            f"not {model.core.position.kind!r}, and an even number of patches along a side, not {model.side}"
        )
    return data, replace(config, model=model)


def choose_shape(config: TrainConfig, given: Pretrained | None) -> ViTConfig:
    """The model's shape: a resumed run's own, or that of the weights to start from, resized, or the one described."""
    if resume_point(config) is not None:
        return read_config(config.out, TrainConfig).model
    if given is None:
        return config.model
    was, now = ((shape.image_size, shape.patch) for shape in (given.config, config.model))
    if was != now:
        sides = f"{now[0]} pixels in patches of {now[1]}, not {was[0]} and {was[1]}"
        notice(f"{config.init_from} goes on with images of {sides}")
    return resized(given.config, *now)


WHITENED_BY = 5_000
"""Training images whose patches tell how to whiten."""


def first_model(config: TrainConfig, data: Data) -> ViT:
    """The model that training starts from; what a checkpoint holds comes later."""
    if resume_point(config) is not None:
        return ViT(config.model)
    if config.init_from:
        return load_pretrained(config.init_from, config.model)
    model = ViT(config.model)
    if isinstance(model.embed.patches, WhitenedPatchEmbedding):
        some = data.train.some(WHITENED_BY)
        model.embed.patches.fit(data.preparation(some, config.model.image_size))
    return model


if __name__ == "__main__":
    main(lambda: train(parse(TrainConfig, PRESETS, description="Trains an image model.")))
