"""Drawing images token by token: a decoder over a palette, or over patches."""

import math
from dataclasses import replace
from pathlib import Path
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
from vision.generation.codebook import Codebook
from vision.generation.noise import generator
from vision.generation.pixels import PixelGenerator
from vision.models.image_gpt import ImageGPT, PixelLoss
from vision.reports.sheets import write_sheet
from vision.tasks.drawing.pixels_config import PixelsConfig
from vision.tasks.drawing.prompted import (
    PromptedTask,
    check_same_shape,
    choose_prompts,
    first_model,
    prepared_data,
    shown_labels,
)
from vision.trained import load_pixels

CODED_IMAGES = 5_000
"""Training images whose patches the image tokens are learned from."""


class Pixels(PromptedTask):
    """Images as tokens after a prompt, the cross-entropy of each token, bits per dimension of those held out."""

    unit = "images"
    best = "val/bits_per_dim"
    mode: Literal["min", "max"] = "min"
    use = "draw images with: python -m vision.generate"

    def __init__(self, data: Data, prompts: Prompts, codebook: Codebook, config: PixelsConfig):
        self.data, self.prompts, self.codebook, self.config = data, prompts, codebook, config

    @classmethod
    def prepare(cls, config: PixelsConfig) -> Self:
        data = prepared_data(config)
        prompts = choose_prompts(config, config.told, config.caption_length, data)
        codebook, source = learned_codes(config, data), None
        if config.init_from and resume_point(config) is None:
            source = load_pixels(config.init_from)
            codebook = source.codebook
        shape = replace(
            config.model,
            channels=data.preparation.channels,
            codes=len(codebook),
            prompt_codes=prompts.size,
            prompt_length=prompts.length,
        )
        config = replace(config, model=shape)
        if source is not None:
            check_same_shape(config, source.config)
        return cls(data, prompts, codebook, with_steps(config, len(data.train)))

    def first_model(self) -> ImageGPT:
        return first_model(self.config, ImageGPT, load_pixels)

    def summary(self) -> str:
        data, shape = self.data, self.config.model
        return (
            f"{data.name}: {len(data.train):,} images to learn from, {len(data.validation):,} held out, "
            f"{shape.tokens:,} tokens each, of {shape.codes:,}, after a prompt of {shape.prompt_length}"
        )

    def save_data(self, folder: Path) -> None:
        super().save_data(folder)
        self.codebook.save(folder)

    def objective(self, model: ImageGPT) -> nn.Module:
        return PixelLoss(model)

    def order(self, step: int, part: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step: what is told of images, int64 (b, P), and their tokens, int64 (b, N)."""
        count = self.config.batch_size
        uniform = torch.rand(count, generator=generator(self.config.seed, "pixels", step))
        dropped = uniform < self.config.class_dropout
        batch, rows = self.images.batch(step, *part), share(np.arange(count), *part)
        return [self._begin(micro, dropped[torch.from_numpy(own)]) for micro, own in zip(batch, rows, strict=True)]

    def count(self, *batch: Tensor) -> int:
        """The number of image tokens in a micro-batch."""
        return batch[1].numel()

    def evaluate(self, run: Run) -> dict[str, float]:
        """Bits per dimension of all held-out images, divided among the processes; none where there are none."""
        model, images = run.state.model, self.data.validation
        assert isinstance(model, ImageGPT)
        if not len(images):
            return {}
        part = (run.share.rank, run.share.world)
        rows = self.config.eval_batch
        total = run.total(nats(model, images, self.data.preparation, self.prompts, self.codebook, rows, part))
        return {f"val/{name}": value for name, value in per_unit(float(total), len(images), model).items()}

    def show(self, run: Run) -> None:
        """Draws some images of every class, or of captions that are held out, into samples/step-*.png."""
        if run.main and self.config.sample:
            model = run.state.model
            assert isinstance(model, ImageGPT)
            drawn = PixelGenerator(model, self.codebook, self.prompts, run.device)
            labels, names = shown_labels(self.data, self.prompts, self.config.sample)
            pixels = drawn.draw(self.prompts.of(labels), self.config.sampling, self.config.seed)
            write_sheet(pixels, run.folder / "samples" / f"step-{run.step:08d}.png", 10, names)

    def _begin(self, stored: Batch, dropped: Tensor) -> Batch:
        """What the objective takes of stored images and their labels, of which some are not told."""
        pixels, labels = (to_device(each, self.device) for each in stored)
        told = self.prompts.of(labels.masked_fill(to_device(dropped, self.device), -1))
        codes = self.codebook.encode(sized(pixels, self.data.preparation, self.config.model.image_size))
        return told.view(len(told), -1), codes


def learned_codes(config: PixelsConfig, data: Data) -> Codebook:
    """The image tokens of a new run, learned from its training images, or those of one that is resumed."""
    if resume_point(config) is not None:
        return Codebook.load(config.out)
    shape = config.model
    pixels = sized(data.train.sample(CODED_IMAGES), data.preparation, shape.image_size)
    return Codebook.learn(pixels, shape.patch, shape.codes)


def sized(pixels: Tensor, preparation: Preparation, side: int) -> Tensor:
    """Stored images in the model's size: uint8 (B, C, H, W) -> uint8 (B, C, side, side)."""
    return (preparation.resize(pixels, side) * 255).round().to(torch.uint8)


@torch.no_grad()
def nats(
    model: ImageGPT,
    images: ImageSet,
    preparation: Preparation,
    prompts: Prompts,
    codebook: Codebook,
    rows: int,
    part: tuple[int, int] = (0, 1),
) -> Tensor:
    """Minus the log-likelihood of a process's part of some images, their classes or captions told: float64 ().

    part: (rank, number of processes)
    """
    device = next(model.parameters()).device
    total = torch.zeros((), dtype=torch.float64, device=device)
    for pixels, labels in evaluation_batches(images, rows, *part):
        codes = codebook.encode(sized(pixels.to(device), preparation, model.config.image_size))
        told = prompts.of(labels.to(device))
        total += PixelLoss(model)(told.view(len(told), -1), codes).double()
    return total


def per_unit(total: float, images: int, model: ImageGPT) -> dict[str, float]:
    """The loss: nats per token; bits_per_dim: bits per number of an image, of which a colour pixel has three."""
    c = model.config
    numbers = images * c.channels * c.image_size**2
    return {"loss": total / (images * c.tokens), "bits_per_dim": total / numbers / math.log(2)}


def coding_error(images: ImageSet, preparation: Preparation, codebook: Codebook, side: int) -> float:
    """The root mean square by which images differ from those of their tokens, pixels being 0 to 1."""
    squares = 0.0
    for pixels, _ in evaluation_batches(images, 500):
        exact = sized(pixels, preparation, side)
        coded = codebook.decode(codebook.encode(exact))
        squares += float(((exact.double() - coded.double()) / 255).square().mean((1, 2, 3)).sum())
    return math.sqrt(squares / len(images))
