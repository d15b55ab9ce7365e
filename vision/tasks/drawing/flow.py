"""Drawing images: flow matching with a Transformer."""

from dataclasses import replace
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from core.devices import to_device
from core.training.config import with_steps
from core.training.folder import resume_point
from core.training.order import Batch, Share, share
from core.training.run import Run
from vision.captions.prompts import Prompts
from vision.data.batches import ImageSet, evaluation_batches
from vision.data.load import Data
from vision.data.preparation import Preparation
from vision.generation.draw import ImageGenerator
from vision.generation.flow import FlowLoss, logit_normal
from vision.generation.noise import generator, noise
from vision.models.dit import DiT
from vision.reports.sheets import write_sheet
from vision.tasks.drawing.flow_config import FlowConfig
from vision.tasks.drawing.prompted import (
    PromptedTask,
    check_same_shape,
    choose_prompts,
    first_model,
    prepared_data,
    shown_labels,
)
from vision.trained import load_generator

HELD_OUT_SEED = 0
"""Of the noise and the times at which held-out images are evaluated: the same for every run."""
GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, less their whole part, fill the interval from 0 to 1 evenly from any place on."""


class Flow(PromptedTask):
    """Images, squared error of the velocity from noise to each of them; the same error on those held out."""

    unit = "images"
    best = "val/loss"
    mode: Literal["min", "max"] = "min"
    use = "draw images with: python -m vision.generate"

    def __init__(self, data: Data, prompts: Prompts, config: FlowConfig):
        self.data, self.prompts, self.config = data, prompts, config

    @classmethod
    def prepare(cls, config: FlowConfig) -> Self:
        data = prepared_data(config)
        shape, prepared = config.model, data.preparation
        prompts = choose_prompts(config, shape.told, shape.caption_length, data)
        classes = len(prepared.classes) if prompts.words is None else 0
        shape = replace(shape, channels=prepared.channels, classes=classes, words=len(prompts.words or ()))
        config = replace(config, model=shape)
        if config.init_from and resume_point(config) is None:
            check_same_shape(config, load_generator(config.init_from).config)
        return cls(data, prompts, with_steps(config, len(data.train)))

    def first_model(self) -> DiT:
        return first_model(self.config, DiT, load_generator)

    def summary(self) -> str:
        data, names = self.data, len(self.data.preparation.classes)
        told = f"{names:,} classes" if self.prompts.words is None else f"captions of {len(self.prompts.words):,} words"
        return f"{data.name}: {len(data.train):,} images to learn from, {len(data.validation):,} held out, {told}"

    def objective(self, model: nn.Module) -> nn.Module:
        return FlowLoss(model)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step: images (b, C, S, S), what is told of them (b,) or (b, L), times (b,), noise."""
        batch = self.images.batch(step, *share)
        return [self._begin(micro, drawn) for micro, drawn in zip(batch, self._draws(step, share), strict=True)]

    def count(self, *batch: Tensor) -> int:
        """The number of images in a micro-batch."""
        return len(batch[0])

    def evaluate(self, run: Run) -> dict[str, float]:
        """The loss of all held-out images, each at one time, divided among the processes; none where there are none."""
        model = run.state.model
        assert isinstance(model, DiT)
        if not len(self.data.validation):
            return {}
        part = (run.share.rank, run.share.world)
        total = run.total(
            held_out_loss(model, self.data.validation, self.data.preparation, self.prompts, self.config, part)
        )
        return {"val/loss": float(total) / len(self.data.validation)}

    def show(self, run: Run) -> None:
        """Draws some images of every class, or of captions that are held out, into samples/step-*.png."""
        if run.main and self.config.sample:
            model = run.state.model
            assert isinstance(model, DiT)
            drawn = ImageGenerator(model, self.data.preparation, self.prompts, run.device)
            labels, names = shown_labels(self.data, self.prompts, self.config.sample)
            pixels = drawn.draw(self.prompts.of(labels), self.config.drawing, self.config.seed)
            columns = self.config.model.classes if 0 < self.config.model.classes <= 20 else 10
            write_sheet(pixels, run.folder / "samples" / f"step-{run.step:08d}.png", columns, names)

    def _begin(self, stored: Batch, drawn: Batch) -> Batch:
        """What the objective takes: images (b, C, S, S) and what was drawn for them."""
        pixels, labels = stored
        begun, times, dropped, mirrored = (to_device(part, self.device) for part in drawn)
        images = self.data.preparation(to_device(pixels, self.device), self.config.model.image_size)
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        told = self.prompts.of(to_device(labels, self.device).masked_fill(dropped, -1))
        return images, told, times, begun

    def _draws(self, step: int, part: Share) -> list[Batch]:
        """For every micro-batch noise (b, C, S, S), times (b,), bool (b,): classes dropped, images mirrored.

        A pure function of (seed, step), drawn for the images of all processes together.
        """
        config, count = self.config, self.config.batch_size
        drawn = generator(config.seed, "flow", step)
        normal, uniform = torch.randn(count, generator=drawn), torch.rand(3, count, generator=drawn)
        shape = (count, config.model.channels, config.model.image_size, config.model.image_size)
        begun = torch.randn(shape, generator=drawn)
        logit = config.times == "logit-normal"
        times = logit_normal(normal, config.times_mean, config.times_std) if logit else uniform[0]
        whole = begun, times, uniform[1] < config.class_dropout, (uniform[2] < 0.5) & (config.flip == "random")
        rows = share(np.arange(count), *part)
        return [tuple(each[torch.from_numpy(micro)] for each in whole) for micro in rows]


@torch.no_grad()
def held_out_loss(
    model: DiT,
    images: ImageSet,
    preparation: Preparation,
    prompts: Prompts,
    config: FlowConfig,
    part: tuple[int, int] = (0, 1),
) -> Tensor:
    """The loss summed over a process's part of some images, float64 (); each has a noise and a time of its own.

    part: (rank, number of processes)
    """
    c, first = config.model, len(images) * part[0] // part[1]
    device = next(model.parameters()).device
    total = torch.zeros((), dtype=torch.float64, device=device)
    for pixels, labels in evaluation_batches(images, config.eval_batch, *part):
        places = range(first, first := first + len(labels))
        begun = noise(HELD_OUT_SEED, places, (c.channels, c.image_size, c.image_size)).to(device)
        times = held_out_times(torch.tensor(places), config).to(device)
        prepared = preparation(pixels.to(device), c.image_size)
        total += FlowLoss(model)(prepared, prompts.of(labels.to(device)), times, begun).double()
    return total


def held_out_times(places: Tensor, config: FlowConfig) -> Tensor:
    """The times at which images, by their places int64 (b,), are evaluated, spread like those of training: (b,)."""
    even = (places.double() * GOLDEN + 0.5) % 1.0
    if config.times == "uniform":
        return even.float()
    return logit_normal(torch.special.ndtri(even).float(), config.times_mean, config.times_std)
