"""The Diffusion Transformer: what it starts as, what its condition does, and that it is features and head."""

from __future__ import annotations

import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from tests.core.helpers import awake
from vision.models.dit import DiT, DiTConfig, TimeEmbedding

CORE = TransformerConfig(dim=16, depth=2, n_heads=2, modulation="adaln", position=PositionConfig("learned"))
SHAPE = DiTConfig(image_size=8, channels=3, classes=3, patch=4, core=CORE)


def given(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, 8, 8, generator=drawn), torch.rand(batch, generator=drawn), torch.arange(batch) % 4


def test_at_first_every_velocity_is_zero() -> None:
    assert not DiT(SHAPE)(*given()).any()


def test_velocities_have_the_shape_of_images_and_depend_on_all_that_is_given() -> None:
    model, (images, times, labels) = awake(DiT(SHAPE)), given()
    velocity = model(images, times, labels)
    assert velocity.shape == images.shape
    for other in ((images + 1, times, labels), (images, times + 0.1, labels), (images, times, labels + 1)):
        assert (model(*other) - velocity).abs().amax((1, 2, 3)).min() > 1e-3


def test_rows_do_not_mix() -> None:
    model, (images, times, labels) = awake(DiT(SHAPE)), given(3)
    whole = model(images, times, labels)
    torch.testing.assert_close(model(images[1:2], times[1:2], labels[1:2]), whole[1:2])


def test_it_is_its_features_and_its_head() -> None:
    model, batch = awake(DiT(SHAPE)), given()
    features = model.features(*batch)
    assert features.shape == (2, 4, 16)
    torch.testing.assert_close(model.join(model.head(features)), model(*batch))
    torch.testing.assert_close(model.features(*batch, read=slice(1, 3)), features[:, 1:3])


def test_patches_are_put_back_where_they_were_cut() -> None:
    model, images = DiT(SHAPE), torch.randn(2, 3, 8, 8)
    assert torch.equal(model.join(model.patches.read(images)), images)


def test_times_are_told_apart() -> None:
    """Two times that are a hundredth apart have different waves, and time 0 those of zero."""
    waves = TimeEmbedding(32).waves.embed(1000.0 * torch.tensor([[0.0], [0.5], [0.51]]))
    assert torch.equal(waves[0], torch.tensor([0.0, 1.0]).repeat(16))
    assert (waves[1] - waves[2]).abs().max() > 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"patch": 3}, "patch = 3 must divide"),
        ({"core": TransformerConfig()}, "modulation = 'none' must be 'adaln'"),
        ({"channels": -1}, "channels = -1"),
    ],
)
def test_an_impossible_shape_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DiTConfig(**change)  # type: ignore[arg-type]


def test_what_the_data_decides_must_be_filled_in() -> None:
    with pytest.raises(ValueError, match="classes = 0"):
        DiT(DiTConfig(channels=1))
