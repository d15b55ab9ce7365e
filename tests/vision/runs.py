"""Run folders of untrained models, and commands that use them, called in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from core.cli.exits import main
from core.config import PositionConfig, TransformerConfig
from core.files.serialize import to_dict
from core.training.checkpoints import Checkpoints, write_config
from vision.config import TrainConfig
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig
from vision.models.vit import ViT

CORE = TransformerConfig(dim=24, depth=2, n_heads=2)
GREY = ViTConfig(image_size=8, channels=1, classes=10, patch=2, core=CORE)
"""For scikit-learn's digits."""
COLOR = ViTConfig(image_size=16, channels=3, classes=4, patch=4, core=CORE)
SHAPES = {
    "mean": replace(COLOR, registers=1),
    "class": replace(COLOR, pool="class", registers=2, core=replace(COLOR.core, position=PositionConfig("learned"))),
    "attention": replace(COLOR, pool="attention", tokenizer="conv"),
}
"""By their pooling."""


class Outcome(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: list[str]


def call(capfd: pytest.CaptureFixture[str], command: Callable[[list[str]], None], *words: object) -> Outcome:
    """Runs a command as from a shell, in this process."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        main(lambda: command([*map(str, words)]))
    out, err = capfd.readouterr()
    return Outcome(int(str(end.value.code)), out, err.splitlines())


def write_run(folder: Path, config: ViTConfig, side: int | None = None) -> Path:
    """A run folder of a model with random weights, none of them zero, and other averaged ones."""
    torch.manual_seed(0)
    raw = opinionated(ViT(config)).state_dict()
    averaged = opinionated(ViT(config)).state_dict()
    write_config(folder, to_dict(TrainConfig(steps=1, data="digits", model=config)))
    classes = tuple(f"class {label}" for label in range(config.classes))
    mean, std = (0.3, 0.4, 0.5)[: config.channels], (0.25, 0.3, 0.35)[: config.channels]
    Preparation(classes, config.channels, mean, std, side or config.image_size).save(folder)
    Checkpoints(folder).write(1, {"model": raw, "ema": averaged}, {"state": {}})
    return folder


def opinionated(model: ViT) -> ViT:
    """With noise on every weight, so that what starts at zero has an effect too, and answers differ."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model
