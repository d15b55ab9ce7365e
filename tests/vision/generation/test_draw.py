"""Images drawn: a function of seed, index and class alone."""

from __future__ import annotations

import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from tests.core.helpers import awake
from vision.captions.prompts import Prompts
from vision.data.preparation import Preparation
from vision.generation.draw import ImageGenerator
from vision.generation.noise import noise
from vision.generation.samplers import Drawing
from vision.models.dit import DiT, DiTConfig

CORE = TransformerConfig(dim=16, depth=2, n_heads=2, modulation="adaln", position=PositionConfig("learned"))
SHAPE = DiTConfig(image_size=8, channels=1, classes=3, patch=4, core=CORE)
PREPARATION = Preparation(("a", "b", "c"), 1, (0.4,), (0.3,), 8)
FEW = Drawing(steps=3, sampler="euler", guidance=1.5)


def generator(rows: int = 250) -> ImageGenerator:
    return ImageGenerator(awake(DiT(SHAPE)), PREPARATION, Prompts.of_classes(3), rows=rows)


def test_an_image_does_not_depend_on_what_is_drawn_beside_it() -> None:
    labels = torch.tensor([0, 1, 2, 2, 1])
    whole = generator().draw(labels, FEW, seed=3)
    assert whole.shape == (5, 1, 8, 8)
    alone = [generator().draw(labels[index : index + 1], FEW, seed=3, first=index)[0] for index in range(5)]
    for other in (torch.stack(alone), generator(rows=2).draw(labels, FEW, seed=3)):
        assert (whole.int() - other.int()).abs().max() <= 1  # rounding of sums


def test_another_seed_index_or_class_is_another_image() -> None:
    draw, zero = generator().draw, torch.tensor([0])
    first = draw(zero, FEW)
    others = draw(zero, FEW, 1), draw(zero, FEW, first=1), draw(zero + 1, FEW)
    assert not any(torch.equal(first, other) for other in others)


def test_a_film_ends_with_the_images() -> None:
    frames = [*generator().film(torch.tensor([0, 1]), FEW, seed=3)]
    assert len(frames) == 4
    assert torch.equal(frames[-1], generator().draw(torch.tensor([0, 1]), FEW, seed=3))
    assert torch.equal(frames[0], PREPARATION.restore(noise(3, [0, 1], (1, 8, 8))))


def test_without_guidance_nothing_is_asked_for() -> None:
    """At 0 all classes give the same image; at 1 the model is asked once."""
    nothing = Drawing(steps=2, guidance=0.0)
    assert torch.equal(generator().draw(torch.tensor([0]), nothing), generator().draw(torch.tensor([2]), nothing))


def test_noise_is_normal_and_belongs_to_its_index() -> None:
    drawn = noise(0, range(400), (1, 5, 5))
    assert abs(drawn.mean()) < 0.05
    assert drawn.std().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(noise(0, [7, 3], (1, 5, 5)), drawn[[7, 3]])


def test_pixels_come_back_from_what_they_were_prepared_as() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(PREPARATION.restore(PREPARATION.normalise(pixels / 255)), pixels)
