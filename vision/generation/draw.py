"""A trained model put to use: from what it is told to images."""

from collections.abc import Iterator

import torch
from torch import Tensor

from vision.captions.prompts import Prompts
from vision.data.preparation import Preparation
from vision.generation.noise import noise
from vision.generation.samplers import Drawing, Velocity, guided, integrate
from vision.models.dit import DiT


class ImageGenerator:
    """A trained model in evaluation mode, and how its images become pixels. rows: images drawn at once."""

    def __init__(
        self,
        model: DiT,
        preparation: Preparation,
        prompts: Prompts,
        device: torch.device | str = "cpu",
        rows: int = 250,
    ):
        self.model, self.preparation, self.prompts, self.device, self.rows = model, preparation, prompts, device, rows

    def draw(self, told: Tensor, drawing: Drawing, seed: int = 0, first: int = 0) -> Tensor:
        """An image for each row of what is told, int64 (N,) or (N, L): uint8 (N, C, S, S), on the CPU.

        first: the index of the first. What is drawn depends on the seed, an image's index and what is told of it, not
        on what is drawn beside it, up to rounding.
        """
        parts = [torch.empty(0, *self.shape, dtype=torch.uint8)]
        for start in range(0, len(told), self.rows):
            *_, last = self.film(told[start : start + self.rows], drawing, seed, first + start)
            parts.append(last)
        return torch.cat(parts)

    def film(self, told: Tensor, drawing: Drawing, seed: int = 0, first: int = 0) -> Iterator[Tensor]:
        """The same images at once, first as noise and then after each step: uint8 (N, C, S, S), on the CPU."""
        begun = noise(seed, range(first, first + len(told)), self.shape).to(self.device)
        yield self.preparation.restore(begun).cpu()
        told = told.to(self.device)
        nothing = self.prompts.nothing.to(self.device).expand_as(told)
        velocity = guided(self._velocity(told), self._velocity(nothing), drawing.guidance)
        with torch.inference_mode():
            for images in integrate(velocity, begun, drawing):
                yield self.preparation.restore(images).cpu()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: (C, S, S)."""
        c = self.model.config
        return c.channels, c.image_size, c.image_size

    def _velocity(self, told: Tensor) -> Velocity:
        def velocity(x: Tensor, t: float) -> Tensor:
            return self.model(x, torch.full((len(x),), t, device=x.device), told).float()

        return velocity
