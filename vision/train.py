"""Train an image model.

python -m vision.train PRESET --data NAME_OR_FOLDER --out DIR [--any.config.field VALUE ...]
python -m vision.train --out DIR --resume
"""

import shlex
from dataclasses import replace
from functools import partial

from core.cli.exits import main
from core.config import TransformerConfig
from core.messages import notice
from core.optim.groups import build_optimizer
from core.training.checkpoints import read_config
from core.training.command import parse
from core.training.config import with_steps
from core.training.folder import resume_point
from core.training.run import Run
from core.training.trained import matches_data, save_data_record
from vision.config import TrainConfig
from vision.data.load import Data, load_data
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig
from vision.models.tokens import WhitenedPatchEmbedding
from vision.models.vit import ViT
from vision.presets import PRESETS
from vision.pretrained.load import Pretrained, read_pretrained
from vision.pretrained.resize import dropping, resized
from vision.sides import in_words
from vision.tasks.classification import Classification

WHITENING_IMAGES = 5_000
"""Training images from whose patches the whitening is computed."""


def train(config: TrainConfig) -> dict[str, float]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    data, config, source = prepare(config)
    figures: dict[str, float] = {}
    with Run(config, unit="images") as run:
        model = first_model(config, data, source)
        del source  # as large as the model
        if config.train == "head":
            model.requires_grad_(False).head.requires_grad_(True)
        if run.main:
            data.preparation.save(run.folder)
            held = {"validation": len(data.validation), "validation_fingerprint": data.validation_fingerprint}
            save_data_record(run.folder, data.name, data.fingerprint, train=len(data.train), **held)
        task = Classification(data, config, run.device)
        objective = run.prepare(task.objective(model), model, partial(build_optimizer, config=config.optimizer))
        run.log_summary(task.summary())
        for _, batch in run.steps(task.order):
            run.update(run.backward(objective, batch, count=task.count))
            if run.due("eval"):
                with run.evaluating():
                    figures = task.evaluate(run)
                run.log(figures, best=task.best, mode=task.mode)
        run.progress.say(f"done; evaluate it with: python -m vision.evaluate {shlex.quote(str(run.folder))}")
    return figures


def prepare(config: TrainConfig) -> tuple[Data, TrainConfig, Pretrained | None]:
    """The images, the configuration with all that depends on them filled in, and the weights to start from, if any.

    Raises ValueError for bad input.
    """
    resumed = resume_point(config) is not None
    source = read_pretrained(config.init_from) if config.init_from and not resumed else None
    shape = choose_shape(config, source)
    data = load_data(
        config.data,
        size=shape.image_size,
        channels=shape.channels or None,
        validation=config.validation,
        fit=config.fit,
        crop=(source.crop if source else None) or config.augment.room(shape.image_size),
        preparation=Preparation.load(config.out) if resumed else None,
        matches=partial(matches_data, config.out) if config.resume else bool,
        skip_bad=config.skip_bad,
        storage=config.storage,
        sound=config.sound if config.media == "sounds" else None,
    )
    if config.resume and not matches_data(config.out, data.fingerprint):
        raise ValueError(f"{config.out} was trained on other images: those of --data {config.data} have changed")
    if config.resume and not matches_data(config.out, data.validation_fingerprint, "validation_fingerprint"):
        notice(f"the validation images of --data {config.data} have changed: later figures are those of other images")
    if source is not None:
        data = replace(data, preparation=source.adapt_preparation(data.preparation))
    model = replace(shape, channels=data.preparation.channels, classes=len(data.preparation.classes))
    if (model.padding == "columns") != (config.media == "sounds"):
        raise ValueError(f"init_from = {config.init_from!r} is a model of other media than media = {config.media!r}")
    if config.half_size and not (model.continuous and not any(side % 2 for side in model.grid)):
        raise ValueError(
            f"half_size = {config.half_size} needs coordinates = 'grid', positions that take fractions, not "
            f"{model.core.position.kind!r}, and an even number of patches along a side, not {in_words(model.grid)}"
        )
    return data, with_steps(replace(config, model=model), len(data.train)), source


def choose_shape(config: TrainConfig, source: Pretrained | None) -> ViTConfig:
    """The model's shape: that of a resumed run, or of the weights to start from, resized, or of the configuration."""
    if resume_point(config) is not None:
        return read_config(config.out, TrainConfig).model
    if source is None:
        return config.model
    old, new = ((shape.image_size, shape.patch) for shape in (source.config, config.model))
    if old != new:
        sides = f"{new[0]} pixels in patches of {new[1]}, not {old[0]} and {old[1]}"
        notice(f"{config.init_from} is trained on with images of {sides}")
    shape = resized(source.config, *new)
    like = TransformerConfig() if config.train == "head" else config.model.core  # what is not trained is not varied
    return replace(shape, core=dropping(shape.core, like))


def first_model(config: TrainConfig, data: Data, source: Pretrained | None) -> ViT:
    """The model before the first step; a resumed run's weights come later, from its checkpoint."""
    if source is not None:
        return source.start(config.model, data.preparation.classes)
    model = ViT(config.model)
    if resume_point(config) is None and isinstance(model.embed.patches, WhitenedPatchEmbedding):
        pixels = data.train.sample(WHITENING_IMAGES)
        model.embed.patches.fit(data.preparation(pixels, config.model.image_size))
    return model


if __name__ == "__main__":
    main(lambda: train(parse(TrainConfig, PRESETS, description="Trains an image model.")))
