"""What tasks share whose models are told something of an image: its class or its caption."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from core.files.serialize import to_dict
from core.training.folder import resume_point
from core.training.trained import TrainedRun, matches_data
from vision.captions.prompts import Prompts, Told
from vision.captions.words import Words
from vision.config import VisionConfig
from vision.data.load import Data, load_data
from vision.data.preparation import Preparation
from vision.tasks.task import VisionTask, check_same_data, starts_from_others

M = TypeVar("M", bound=nn.Module)


class PromptedTask(VisionTask):
    """A task whose batches hold what is told of each image beside it."""

    prompts: Prompts
    """What may be told."""

    def to(self, device: torch.device) -> None:
        """Lets batches be made for a device, and what is told with them."""
        self.device, self.images = device, self.data.training(self.config.batch_size, self.config.seed, device)
        self.prompts = self.prompts.to(device)

    def save_data(self, folder: Path) -> None:
        """Keeps in a run folder what is needed to use the model, words included, and what it was trained on."""
        super().save_data(folder)
        self.prompts.save(folder)


def first_model(config: VisionConfig, build: Callable[[Any], M], load: Callable[[str], TrainedRun[M, Any]]) -> M:
    """The model that training begins with: a new one, or that of the run which `load` reads."""
    if starts_from_others(config):
        return load(config.init_from).model.train()
    return build(config.model)


def prepared_data(config: VisionConfig) -> Data:
    """The images of a run, whole, of the model's size. Raises ValueError where they are not those of a resumed run."""
    data = load_data(
        config.data,
        size=config.model.image_size,
        channels=config.model.channels or None,
        validation=config.validation,
        fit=config.fit,
        crop=1.0,
        preparation=Preparation.load(config.out) if resume_point(config) is not None else None,
        matches=partial(matches_data, config.out) if config.resume else bool,
        skip_bad=config.skip_bad,
        storage=config.storage,
        labelling=config.labelling,
    )
    check_same_data(config, data)
    return data


def check_same_shape(config: VisionConfig, source: VisionConfig) -> None:
    """Raises ValueError unless the weights to start from, of the run `source`, are of the same shape."""
    own, other = to_dict(config.model), to_dict(source.model)
    for name in own:
        if own[name] != other[name]:
            raise ValueError(f"init_from = {config.init_from!r} has model.{name} = {other[name]!r}, not {own[name]!r}")


def choose_prompts(config: VisionConfig, told: Told, length: int, data: Data) -> Prompts:
    """The prompts of a new run, whose words are those of its training captions, or of one that is resumed."""
    classes = data.preparation.classes
    if resume_point(config) is not None:
        return Prompts.load(config.out, told, classes, length)
    if told == "class":
        return Prompts.of_classes(len(classes))
    words = Words.learn(classes[label] for label in data.train.labels.unique())
    return Prompts.of_captions(classes, words, length)


def shown_labels(data: Data, prompts: Prompts, count: int) -> tuple[list[int], Sequence[str]]:
    """Labels to be shown, and names below them: classes in turn, or captions, held-out ones where there are any."""
    classes = data.preparation.classes
    if prompts.words is None:
        return [index % len(classes) for index in range(count)], ()
    labels = (data.validation if len(data.validation) else data.train).labels.tolist()
    chosen = [labels[place * len(labels) // count] for place in range(count)]
    return chosen, [classes[label] for label in chosen]
