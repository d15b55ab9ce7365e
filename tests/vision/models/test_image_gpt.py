"""The decoder of image tokens: where they are, what they are told from, and that a cache changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from tests.core.helpers import awake
from vision.models.image_gpt import ImageGPT, ImageGPTConfig, PixelLoss

CORE = TransformerConfig(dim=16, depth=2, n_heads=2, position=PositionConfig("learned"))
SHAPE = ImageGPTConfig(image_size=6, channels=1, patch=2, codes=5, prompt_codes=4, prompt_length=2, core=CORE)
PROMPTS = torch.tensor([[0, 3], [1, 0]])


def codes(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 5, (2, 9), generator=torch.Generator().manual_seed(seed))


def test_a_prompt_lies_above_the_image() -> None:
    coords = ImageGPT(SHAPE).coords(0, 11)
    grid = [(1 + row, column) for row in range(3) for column in range(3)]
    assert [tuple(each) for each in coords.tolist()] == [(0, 0), (0, 1), *grid]
    assert torch.equal(ImageGPT(SHAPE).coords(4, 7), coords[4:7])


@pytest.mark.parametrize("position", ["learned", "rotary"])
def test_a_token_is_told_from_what_comes_before_it_alone(position: str) -> None:
    core = replace(CORE, position=PositionConfig(position))  # type: ignore[arg-type]
    model, tokens = awake(ImageGPT(replace(SHAPE, core=core))), codes()
    logits = model(PROMPTS, tokens)
    assert logits.shape == (2, 9, 5)
    other = tokens.clone()
    other[:, 4] = (other[:, 4] + 1) % 5
    changed = (model(PROMPTS, other) - logits).abs().amax((0, 2)) > 1e-5
    assert changed.tolist() == [False] * 5 + [True] * 4
    assert (model(PROMPTS.flip(0), tokens) - logits).abs().amax((0, 2)).min() > 1e-4
    torch.testing.assert_close(model.features(PROMPTS, tokens, slice(2, 5)), model.features(PROMPTS, tokens)[:, 2:5])


def test_with_a_cache_the_most_probable_image_is_the_same() -> None:
    model = awake(ImageGPT(SHAPE))
    starts = torch.cat([model.prompt_ids(PROMPTS), codes()[:, :3]], dim=1)
    found = complete(model, starts.tolist(), 6, Sampling(temperature=0))
    tokens = codes()[:, :3]
    for _ in range(6):
        missing = torch.zeros(2, 9 - tokens.shape[1], dtype=torch.int64)
        logits = model(PROMPTS, torch.cat([tokens, missing], dim=1))
        tokens = torch.cat([tokens, logits[:, tokens.shape[1]].argmax(-1, keepdim=True)], dim=1)
    assert found == tokens[:, 3:].tolist()


def test_the_loss_is_that_of_every_image_token() -> None:
    model = awake(ImageGPT(SHAPE))
    chosen = model(PROMPTS, codes()).log_softmax(-1).gather(-1, codes().unsqueeze(-1))
    torch.testing.assert_close(PixelLoss(model)(PROMPTS, codes()), -chosen.sum())


@pytest.mark.parametrize(
    ("change", "words"), [({"patch": 4}, "patch = 4 must divide"), ({"codes": 1}, "codes = 1 must be at least 2")]
)
def test_an_impossible_shape_is_refused(change: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SHAPE, **change)
    with pytest.raises(ValueError, match="prompt_codes = 0"):
        ImageGPT(replace(SHAPE, prompt_codes=0))
