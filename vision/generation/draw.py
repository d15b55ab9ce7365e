"""A trained model put to use: from classes to images."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vision.data.preparation import Preparation
from vision.generation.noise import noise
from vision.generation.samplers import Drawing, Velocity, guided, integrate
from vision.models.dit import DiT


class ImageGenerator:
    """A trained model in evaluation mode, and how its images become pixels. rows: images drawn at once."""

    def __init__(self, model: DiT, preparation: Preparation, device: torch.device | str = "cpu", rows: int = 250):
        self.model, self.preparation, self.device, self.rows = model, preparation, device, rows

    def draw(self, labels: Sequence[int], drawing: Drawing, seed: int = 0, first: int = 0) -> Tensor:
        """An image of each class in `labels`: uint8 (N, C, S, S), on the CPU.

        first: the index of the first. What is drawn depends on the seed, an image's index and its class, not on what
        is drawn beside it, up to rounding.
        """
        parts = [torch.empty(0, *self.shape, dtype=torch.uint8)]
        for start in range(0, len(labels), self.rows):
            *_, last = self.film(labels[start : start + self.rows], drawing, seed, first + start)
            parts.append(last)
        return torch.cat(parts)

    def film(self, labels: Sequence[int], drawing: Drawing, seed: int = 0, first: int = 0) -> Iterator[Tensor]:
        """The same images at once, first as noise and then after each step: uint8 (N, C, S, S), on the CPU."""
        begun = noise(seed, range(first, first + len(labels)), self.shape).to(self.device)
        yield self.preparation.restore(begun).cpu()
        told = torch.tensor(labels, device=self.device)
        velocity = guided(self._velocity(told), self._velocity(torch.full_like(told, self.untold)), drawing.guidance)
        with torch.inference_mode():
            for images in integrate(velocity, begun, drawing):
                yield self.preparation.restore(images).cpu()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: (C, S, S)."""
        c = self.model.config
        return c.channels, c.image_size, c.image_size

    @property
    def untold(self) -> int:
        """The label that stands for no class in particular."""
        return self.model.config.classes

    def _velocity(self, labels: Tensor) -> Velocity:
        def velocity(x: Tensor, t: float) -> Tensor:
            return self.model(x, torch.full((len(x),), t, device=x.device), labels).float()

        return velocity
