"""Images as tokens, drawn one after another: what stands for what, and that an image is its own function."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from core.decoding.filters import Sampling
from tests.core.helpers import awake
from vision.captions.prompts import Prompts
from vision.generation.codebook import Codebook
from vision.generation.pixels import UNDRAWN, PixelGenerator
from vision.models.image_gpt import ImageGPT, ImageGPTConfig

CORE = TransformerConfig(dim=16, depth=2, n_heads=2, position=PositionConfig("learned"))
SHAPE = ImageGPTConfig(image_size=6, channels=1, patch=2, codes=5, prompt_codes=4, prompt_length=1, core=CORE)
BOOK = Codebook(torch.arange(20, dtype=torch.uint8).mul(9).view(5, 1, 2, 2))
TOLD = torch.tensor([0, 1, 2, 3, 1])


def generator(rows: int = 250, begun: torch.Tensor | None = None) -> PixelGenerator:
    return PixelGenerator(awake(ImageGPT(SHAPE)), BOOK, Prompts.of_classes(3), rows=rows, begun=begun)


def pixels(values: int, channels: int = 3) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(0, values, (6, channels, 8, 8), generator=drawn).mul(255 // (values - 1)).to(torch.uint8)


@pytest.mark.parametrize("patch", [1, 2])
def test_few_patches_are_all_kept_and_come_back_exactly(patch: int) -> None:
    images = pixels(2, 1)
    book = Codebook.learn(images, patch, 16)
    assert len(book) == (2 if patch == 1 else 16)
    assert torch.equal(book.decode(book.encode(images)), images)


def test_of_many_colours_the_nearest_stand_for_them() -> None:
    images = pixels(256)
    book = Codebook.learn(images, 1, 24)
    assert len(book) <= 24
    codes = book.encode(images)
    colours, palette = images.permute(0, 2, 3, 1).reshape(-1, 1, 3).double(), book.patches.view(1, -1, 3).double()
    distances = (colours - palette).square().sum(-1)  # (N n, K)
    chosen = distances.gather(1, codes.view(-1, 1)).squeeze(1)
    assert torch.equal(chosen, distances.min(1).values)
    random = images[0].flatten(1).T[:24].view(1, 24, 3).double()  # any colours in place of the learned
    assert chosen.mean() < 0.9 * (colours - random).square().sum(-1).min(1).values.mean()
    assert torch.equal(Codebook.learn(images, 1, 24).patches, book.patches)


def test_a_codebook_survives_its_file_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    BOOK.save(tmp_path)
    assert torch.equal(Codebook.load(tmp_path).patches, BOOK.patches)
    for content in ('{"patches": [[1, 2]]}', '{"patches": [[[[300]]]]}', '{"patches": "none"}', "{}"):
        (tmp_path / "codes.json").write_text(content)
        with pytest.raises(ValueError, match=r"codes\.json is damaged"):
            Codebook.load(tmp_path)


def test_an_image_does_not_depend_on_what_is_drawn_beside_it() -> None:
    whole = generator().draw(TOLD, Sampling(), seed=3)
    assert whole.shape == (5, 1, 6, 6)
    alone = [generator().draw(TOLD[n : n + 1], Sampling(), seed=3, first=n)[0] for n in range(5)]
    assert torch.equal(whole, torch.stack(alone))
    assert torch.equal(whole, generator(rows=2).draw(TOLD, Sampling(), seed=3))
    assert not torch.equal(whole, generator().draw(TOLD, Sampling(), seed=4))


def test_an_image_is_completed_from_its_upper_part() -> None:
    begun = torch.tensor([4, 0, 2])
    drawn = generator(begun=begun).draw(TOLD, Sampling())
    assert torch.equal(drawn[:, :, :2], BOOK.decode(begun.repeat(3).expand(5, -1))[:, :, :2])
    assert len({tuple(image.flatten().tolist()) for image in drawn}) > 1


def test_a_film_fills_the_image_row_by_row() -> None:
    frames = [*generator().film(TOLD, Sampling(), seed=3)]
    assert len(frames) == 4
    assert [(frame == UNDRAWN).all((0, 1, 3)).tolist().count(True) for frame in frames] == [6, 4, 2, 0]
    assert torch.equal(frames[-1], generator().draw(TOLD, Sampling(), seed=3))
