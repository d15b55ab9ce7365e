"""Padding changes nothing: an image that ends in columns of zeros is the image without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from core.attention import record_attention
from tests.core.helpers import awake, shape
from vision.models.config import ViTConfig
from vision.models.tokens import WhitenedPatchEmbedding
from vision.models.vit import ViT
from vision.tasks.classification import ClassificationLoss

POOLS: list[dict[str, Any]] = [{"pool": "mean", "registers": 2}, {"pool": "class"}, {"pool": "attention"}]
LENGTHS = (24, 9, 3, 16)


def model(position: str = "rotary", patch: tuple[int, int] = (4, 2), **changes: Any) -> ViT:
    """For sounds of 8 bands and up to 24 windows."""
    own: dict[str, Any] = {"image_size": (8, 24), "channels": 1, "classes": 5, "patch": patch, "core": shape(position)}
    return awake(ViT(ViTConfig(**own | {"padding": "columns"} | changes)))


def sounds(*lengths: int, width: int = 24) -> Tensor:
    images = torch.randn(len(lengths), 1, 8, 24, generator=torch.Generator().manual_seed(3))
    images = torch.nn.functional.pad(images, (0, width - 24)) if width > 24 else images[..., :width]
    return images * (torch.arange(width) < torch.tensor(lengths)[:, None])[:, None, None]


@pytest.mark.parametrize("changes", POOLS)
@pytest.mark.parametrize("position", ["none", "learned", "sinusoidal", "rotary", "alibi", "t5"])
def test_padding_changes_nothing(position: str, changes: dict[str, Any]) -> None:
    net, images = model(position, **changes), sounds(*LENGTHS)
    together = net(images)
    alone = torch.cat([net(image[None, ..., :length]) for image, length in zip(images, LENGTHS, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(net(sounds(*LENGTHS, width=50)), together, atol=1e-5, rtol=0)


@pytest.mark.parametrize("patch", [(8, 1), (8, 3), (2, 4)])
def test_whatever_the_patches_are(patch: tuple[int, int]) -> None:
    net, images = model(patch=patch), sounds(*LENGTHS)
    alone = torch.cat([net(image[None, ..., :length]) for image, length in zip(images, LENGTHS, strict=True)])
    torch.testing.assert_close(net(images), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("patch", [2, 8])
def test_convolutions_do_not_spread_into_padding(patch: int) -> None:
    net, images = model(tokenizer="conv", patch=patch), sounds(*LENGTHS)
    alone = torch.cat([net(image[None, ..., :length]) for image, length in zip(images, LENGTHS, strict=True)])
    torch.testing.assert_close(net(images), alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(net(sounds(*LENGTHS, width=56)), alone, atol=1e-5, rtol=0)


def test_it_is_the_graph_that_hides_padding() -> None:
    """The same weights without it answer otherwise: padding would be attended to."""
    net, images = model(), sounds(*LENGTHS)
    heedless = ViT(replace(net.config, padding="none")).eval()
    heedless.load_state_dict(net.state_dict())
    difference = (heedless(images) - net(images)).abs().amax(1)
    assert difference[0] < 1e-5, "a sound that fills the image has none"
    assert difference[1:].min() > 1e-3


def test_no_token_of_a_sound_attends_to_padding() -> None:
    net = model(pool="class")
    with record_attention(net) as maps:
        net(sounds(*LENGTHS))
    for weights in maps.values():  # (B, H, T, T): the class token, then 2 rows of 12
        columns = weights[1, :, :, 1:].unflatten(-1, (2, 12))
        assert columns[..., 5:].eq(0).all(), "9 windows fill 5 patches"
        assert (columns[..., :5] > 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_columns_that_are_padding_in_all_images_are_not_computed() -> None:
    net = model()
    assert net.features(sounds(3, 5)).shape[1] == 2 * 3
    assert net.features(sounds(0, 0)).shape[1] == 2, "a token is left where there is nothing at all"
    assert net(sounds(0, 7)).isfinite().all()


def test_longer_sounds_than_any_that_were_learned() -> None:
    """Positions that are no table go on; a table ends."""
    longer = torch.randn(1, 1, 8, 40)
    assert model("rotary")(longer).isfinite().all()
    with pytest.raises(ValueError, match="images have 2 x 20 patches; this model has positions for 2 x 12"):
        model("learned")(longer)


def test_a_compiled_model_is_the_same() -> None:
    net, images = model(), sounds(9, 3)
    exported = torch.export.export(net, (images,)).module()
    torch.testing.assert_close(exported(images), net(images), atol=1e-5, rtol=0)


def test_padding_gives_no_gradient_and_everything_else_does() -> None:
    net, images = model(pool="attention").train(), sounds(9, 3).requires_grad_()
    ClassificationLoss(net)(images, torch.tensor([0, 3])).backward()
    assert images.grad is not None
    assert images.grad[1, ..., 4:].eq(0).all(), "from the patch on that the sound does not reach"
    assert images.grad[0, ..., :9].ne(0).any(2).all()


def test_whitening_leaves_padding_out() -> None:
    one, other = WhitenedPatchEmbedding(1, 4, 8), WhitenedPatchEmbedding(1, 4, 8)
    images = torch.randn(64, 1, 8, 8)
    one.fit(images)
    other.fit(torch.nn.functional.pad(images, (0, 16)))
    torch.testing.assert_close(one.whitening.abs(), other.whitening.abs(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coordinates": "raster"}, "padding = 'columns' needs coordinates = 'grid', not 'raster'"),
    ],
)
def test_shapes_that_cannot_be_padded(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(**changes)
