"""Nothing of an image is lost or moved when it is cut into tokens, and every token knows where it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.core.helpers import awake, shape
from vision.models.config import ViTConfig
from vision.models.tokens import (
    ConvTokenizer,
    ImageTokens,
    PatchEmbedding,
    WhitenedPatchEmbedding,
    grid,
    patchify,
)

sides = st.integers(1, 5)


def config(position: str = "rotary", **changes: Any) -> ViTConfig:
    """8 x 8 pixels in patches of 2."""
    own = {"image_size": 8, "channels": 3, "classes": 5, "patch": 2, "core": shape(position)}
    return ViTConfig(**own | changes)


@given(batch=sides, channels=sides, rows=sides, columns=sides, patch=sides)
def test_patches_put_together_again_are_the_image(
    batch: int, channels: int, rows: int, columns: int, patch: int
) -> None:
    images = torch.randn(batch, channels, rows * patch, columns * patch)
    patches = patchify(images, patch)
    assert patches.shape == (batch, rows * columns, channels * patch * patch)
    whole = rearrange(patches, "b (h w) (c p q) -> b c (h p) (w q)", p=patch, q=patch, h=rows)
    assert torch.equal(whole, images)


def test_patches_are_in_reading_order_with_their_pixels_as_a_convolution_has_them() -> None:
    images = torch.randn(2, 3, 8, 12)
    assert torch.equal(patchify(images, 4), F.unfold(images, 4, stride=4).mT)


@pytest.mark.parametrize("size", [(9, 8), (8, 9), (2, 2)])
def test_an_image_that_cannot_be_cut_evenly_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"an image of {size[0]} x {size[1]} pixels cannot be cut .* 4 x 4"):
        patchify(torch.zeros(1, 3, *size), 4)


def test_a_patch_embedding_is_a_convolution_with_a_stride() -> None:
    embedding, images = awake(PatchEmbedding(3, 4, 16)), torch.randn(2, 3, 12, 12)
    kernel = embedding.project.weight.unflatten(1, (3, 4, 4))
    expected = F.conv2d(images, kernel, embedding.project.bias, stride=4).flatten(2).mT
    torch.testing.assert_close(embedding(images), expected, atol=1e-5, rtol=0)


# Whitening


def photographs(count: int = 64, size: int = 16) -> Tensor:
    """Images of which neighbouring pixels and channels are alike: (N, 3, S, S)."""
    coarse = torch.randn(count, 3, size // 4, size // 4) @ torch.tensor([[1.0, 0.5], [0.0, 1.0]]).repeat(2, 2)
    smooth = F.interpolate(coarse, size=(size, size), mode="bicubic")
    return smooth + 0.5 * smooth.mean(1, keepdim=True) + 0.05 * torch.randn(smooth.shape)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_whitened_patches_are_uncorrelated_and_only_what_varies_is_brought_to_unit_variance(floor: float) -> None:
    embedding, images = WhitenedPatchEmbedding(3, 4, 16), photographs()
    embedding.fit(images, floor)
    whitened, plain = (patches.flatten(0, 1).double() for patches in (embedding.read(images), patchify(images, 4)))
    variances = torch.linalg.eigvalsh(plain.T @ plain / len(plain))
    assert variances[-1] > 100 * variances[0], "patches that are far from white"
    expected = torch.diag(variances / (variances + floor))
    torch.testing.assert_close(whitened.T @ whitened / len(whitened), expected, atol=2e-3, rtol=0)


def test_a_whitened_embedding_that_nothing_was_fitted_to_is_a_plain_one() -> None:
    torch.manual_seed(1)
    whitened = WhitenedPatchEmbedding(3, 4, 16)
    torch.manual_seed(1)
    plain = PatchEmbedding(3, 4, 16)
    images = photographs()
    torch.testing.assert_close(whitened(images), plain(images))
    assert "whitening" in whitened.state_dict(), "so that a checkpoint holds it"
    assert "whitening" not in dict(whitened.named_parameters()), "so that nothing trains it"


# Convolutions as a tokenizer


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_conv_tokenizer_halves_the_side_at_each_layer(layers: int) -> None:
    tokens = ConvTokenizer(3, layers, 24)(torch.randn(2, 3, 32, 32))
    assert tokens.shape == (2, (32 >> layers) ** 2, 24)


def test_a_conv_tokenizer_is_local_and_keeps_reading_order() -> None:
    tokenizer = ConvTokenizer(1, 1, 8)
    images = torch.rand(1, 1, 16, 16)
    changed = images.clone()
    changed[..., 9, 4] += 10.0
    differ = (tokenizer(images) != tokenizer(changed)).any(-1).view(8, 8).nonzero()
    assert len(differ) > 0
    assert ((differ - torch.tensor([4, 2])).abs() <= 1).all(), "only tokens around the pixel's place notice"


# Coordinates


def test_a_grid_tells_row_and_column_in_reading_order() -> None:
    expected = [(row, column) for row in range(3) for column in range(3)]
    assert grid(3).tolist() == [list(coords) for coords in expected]
    assert grid(3).dtype == torch.int64


@given(side=st.integers(1, 40))
def test_a_grid_in_its_own_coordinates_is_the_plain_grid(side: int) -> None:
    torch.testing.assert_close(grid(side, scaled_to=side), grid(side).float())


@pytest.mark.parametrize(("fine", "coarse"), [(8, 4), (12, 4), (6, 2)])
def test_a_patch_is_where_the_patches_that_cover_it_are_on_average(fine: int, coarse: int) -> None:
    times = fine // coarse
    for of_fine, of_coarse in ((grid(fine).float(), grid(coarse, fine)), (grid(fine, coarse), grid(coarse).float())):
        covering = rearrange(of_fine, "(h i w j) a -> (h w) (i j) a", h=coarse, i=times, j=times)
        torch.testing.assert_close(covering.mean(1), of_coarse)


@pytest.mark.parametrize("coordinates", ["grid", "raster"])
@pytest.mark.parametrize(("pool", "registers"), [("mean", 0), ("mean", 3), ("class", 0), ("class", 2)])
def test_learned_tokens_come_first_and_are_nowhere_in_the_image(coordinates: str, pool: str, registers: int) -> None:
    c = config("learned", coordinates=coordinates, pool=pool, registers=registers)
    embed, images = awake(ImageTokens(c)), torch.randn(2, 3, 8, 8)
    x, coords = embed(images)
    learned = c.learned_tokens
    assert learned == registers + (pool == "class")
    assert x.shape == (2, learned + 16, 32)
    assert torch.equal(x[:, learned:], embed.patches(images))
    if embed.learned is not None:
        assert torch.equal(x[0, :learned], embed.learned)
        assert torch.equal(x[1, :learned], embed.learned)
    here, nowhere = ({tuple(place) for place in part.tolist()} for part in (coords[learned:], coords[:learned]))
    assert len(here) == 16
    assert not here & nowhere
    assert (coords.amax(0) + 1).tolist() == list(embed.extent), (
        "the tables of positions have a row for each, and no more"
    )
    if coordinates == "raster":
        assert coords.flatten().tolist() == list(range(learned + 16))


def test_coordinates_of_another_grid_leave_room_for_the_learned_tokens() -> None:
    c = config(coordinate_side=8, registers=2)
    coords = ImageTokens(c).locate()
    assert coords.dtype == torch.float32
    assert coords[:2].eq(0).all()
    torch.testing.assert_close(coords[2:], grid(4, 8) + 1)
