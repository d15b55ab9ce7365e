"""Drawing images: flow matching with a Transformer."""

from dataclasses import replace
from functools import partial
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from core.adapters.lora import adapt
from core.devices import to_device
from core.files.serialize import to_dict
from core.training.config import with_steps
from core.training.folder import resume_point
from core.training.order import Batch, Share, share
from core.training.run import Run
from core.training.trained import matches_data
from vision.data.batches import ImageSet, evaluation_batches
from vision.data.load import Data, load_data
from vision.data.preparation import Preparation
from vision.generation.draw import ImageGenerator
from vision.generation.flow import FlowLoss, logit_normal
from vision.generation.noise import generator, noise
from vision.models.dit import DiT
from vision.reports.sheets import write_sheet
from vision.tasks.flow_config import FlowConfig
from vision.tasks.task import VisionTask, check_same_data
from vision.trained import load_generator

HELD_OUT_SEED = 0
"""Of the noise and the times at which held-out images are evaluated: the same for every run."""
GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, less their whole part, fill the interval from 0 to 1 evenly from any place on."""


class Flow(VisionTask):
    """Images, squared error of the velocity from noise to each of them; the same error on those held out."""

    unit = "images"
    best = "val/loss"
    mode: Literal["min", "max"] = "min"
    use = "draw images with: python -m vision.generate"

    def __init__(self, data: Data, config: FlowConfig):
        self.data, self.config = data, config

    @classmethod
    def prepare(cls, config: FlowConfig) -> Self:
        resumed = resume_point(config) is not None
        data = load_data(
            config.data,
            size=config.model.image_size,
            channels=config.model.channels or None,
            validation=config.validation,
            fit=config.fit,
            crop=1.0,
            preparation=Preparation.load(config.out) if resumed else None,
            matches=partial(matches_data, config.out) if config.resume else bool,
            skip_bad=config.skip_bad,
            storage=config.storage,
        )
        check_same_data(config, data)
        prepared = data.preparation
        model = replace(config.model, channels=prepared.channels, classes=len(prepared.classes))
        config = replace(config, model=model)
        if config.init_from and not resumed:
            check_same_shape(config)
        return cls(data, with_steps(config, len(data.train)))

    def to(self, device: torch.device) -> None:
        self.device, self.images = device, self.data.training(self.config.batch_size, self.config.seed, device)

    def first_model(self) -> DiT:
        resumed = resume_point(self.config) is not None
        if self.config.init_from and (not resumed or self.config.adapter.kind != "none"):
            return load_generator(self.config.init_from).model.train()
        return DiT(self.config.model)

    def trained_part(self, model: DiT) -> DiT:
        return adapt(model, self.config.adapter)

    def summary(self) -> str:
        data, classes = self.data, len(self.data.preparation.classes)
        return (
            f"{data.name}: {len(data.train):,} images to learn from, {len(data.validation):,} held out, "
            f"{classes:,} classes"
        )

    def objective(self, model: nn.Module) -> nn.Module:
        return FlowLoss(model)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step: images (b, C, S, S), labels (b,), K where none is told, times (b,), noise."""
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
        total = run.total(held_out_loss(model, self.data.validation, self.data.preparation, self.config, part))
        return {"val/loss": float(total) / len(self.data.validation)}

    def show(self, run: Run) -> None:
        """Draws some images of every class into samples/step-*.png."""
        if run.main and self.config.sample:
            model = run.state.model
            assert isinstance(model, DiT)
            drawn = ImageGenerator(model, self.data.preparation, run.device)
            labels = [index % self.config.model.classes for index in range(self.config.sample)]
            pixels = drawn.draw(labels, self.config.drawing, self.config.seed)
            write_sheet(pixels, run.folder / "samples" / f"step-{run.step:08d}.png", columns=self._columns())

    def _columns(self) -> int:
        """A column for each class, where there are few."""
        return self.config.model.classes if self.config.model.classes <= 20 else 10

    def _begin(self, stored: Batch, drawn: Batch) -> Batch:
        """What the objective takes: images (b, C, S, S) and what was drawn for them."""
        pixels, labels = stored
        begun, times, dropped, mirrored = (to_device(part, self.device) for part in drawn)
        images = self.data.preparation(to_device(pixels, self.device), self.config.model.image_size)
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        labels = to_device(labels, self.device).masked_fill(dropped, self.config.model.classes)
        return images, labels, times, begun

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
    model: DiT, images: ImageSet, preparation: Preparation, config: FlowConfig, part: tuple[int, int] = (0, 1)
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
        total += FlowLoss(model)(prepared, labels.to(device), times, begun).double()
    return total


def held_out_times(places: Tensor, config: FlowConfig) -> Tensor:
    """The times at which images, by their places int64 (b,), are evaluated, spread like those of training: (b,)."""
    even = (places.double() * GOLDEN + 0.5) % 1.0
    if config.times == "uniform":
        return even.float()
    return logit_normal(torch.special.ndtri(even).float(), config.times_mean, config.times_std)


def check_same_shape(config: FlowConfig) -> None:
    """Raises ValueError unless the weights to start from are of the same shape."""
    source = load_generator(config.init_from).config.model
    own, other = to_dict(config.model), to_dict(source)
    for name in own:
        if own[name] != other[name]:
            raise ValueError(f"init_from = {config.init_from!r} has model.{name} = {other[name]!r}, not {own[name]!r}")
