"""A trained decoder put to use: from what it is told to images, token after token, and from half an image to all."""

from collections.abc import Iterator

import torch
from torch import Tensor

from core.decoding.filters import Sampling
from core.decoding.generate import generate
from vision.captions.prompts import Prompts
from vision.generation.codebook import Codebook
from vision.generation.noise import seed_of
from vision.models.image_gpt import ImageGPT

UNDRAWN = 255
"""Pixels that are not there yet, in a film: white."""


class PixelGenerator:
    """A trained model in evaluation mode, and what its tokens stand for. rows: images drawn at once.

    begun: image tokens that every image begins with, int64 (m,)
    """

    def __init__(
        self,
        model: ImageGPT,
        codebook: Codebook,
        prompts: Prompts,
        device: torch.device | str = "cpu",
        rows: int = 250,
        begun: Tensor | None = None,
    ):
        self.model, self.codebook, self.prompts, self.device, self.rows = model, codebook, prompts, device, rows
        self.begun = torch.empty(0, dtype=torch.int64) if begun is None else begun.cpu()

    def draw(self, told: Tensor, sampling: Sampling, seed: int = 0, first: int = 0) -> Tensor:
        """An image for each row of what is told, int64 (N,) or (N, L): uint8 (N, C, S, S), on the CPU.

        first: the index of the first. What is drawn depends on the seed, an image's index and what is told of it, not
        on what is drawn beside it, up to rounding.
        """
        c = self.model.config
        parts = [torch.empty(0, c.channels, c.image_size, c.image_size, dtype=torch.uint8)]
        for start in range(0, len(told), self.rows):
            *_, codes = self._codes(told[start : start + self.rows], sampling, seed, first + start)
            parts.append(self.codebook.decode(codes))
        return torch.cat(parts)

    def film(self, told: Tensor, sampling: Sampling, seed: int = 0, first: int = 0) -> Iterator[Tensor]:
        """The same images at once, as they are begun and then after each row of tokens: uint8 (N, C, S, S)."""
        side, patch = self.model.config.side, self.model.config.patch
        for codes in self._codes(told, sampling, seed, first):
            drawn = codes.shape[1]
            if drawn % side == 0:
                missing = torch.zeros(len(codes), side**2 - drawn, dtype=torch.int64)
                images = self.codebook.decode(torch.cat([codes, missing], dim=1))
                images[:, :, drawn // side * patch :] = UNDRAWN
                yield images

    def _codes(self, told: Tensor, sampling: Sampling, seed: int, first: int) -> Iterator[Tensor]:
        """Image tokens, int64 (N, m), as they are begun and with each one more."""
        codes = self.begun.expand(len(told), -1)  # (N, m)
        yield codes
        asked = self.model.prompt_ids(told.cpu().view(len(told), -1))  # (N, P)
        start = torch.cat([asked, codes], dim=1).tolist()
        seeds = [seed_of(seed, "image", first + row) for row in range(len(told))]
        missing = self.model.config.tokens - codes.shape[1]
        for chosen in generate(self.model, start, missing, sampling, seeds=seeds, device=self.device):
            codes = torch.cat([codes, chosen.cpu().unsqueeze(1)], dim=1)
            yield codes
