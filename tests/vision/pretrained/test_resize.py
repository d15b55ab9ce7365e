"""A model for other images, patches or classes keeps what it knew; resampling is timm's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from tests.core.helpers import POSITIONS, awake, shape
from vision.models.config import ViTConfig
from vision.models.tokens import WhitenedPatchEmbedding, patchify
from vision.models.vit import ViT
from vision.pretrained.resize import adapt, resample_kernel, resample_positions, resized

TOKENS: dict[str, dict[str, Any]] = {
    "mean": {"pool": "mean"},
    "class": {"pool": "class"},
    "registers": {"pool": "mean", "registers": 3},
}


def config(position: str = "learned", **changes: Any) -> ViTConfig:
    """16 x 16 pixels in patches of 4, five classes, two blocks."""
    direction = "both" if position == "t5" else "past"
    own = {"image_size": 16, "channels": 3, "classes": 5, "patch": 4, "core": shape(position, direction=direction)}
    return ViTConfig(**own | changes)


def adapted(model: ViT, **changes: Any) -> ViT:
    """The same model for other images; every weight that it needs must be there."""
    new = resized(model.config, changes.get("image_size", 16), changes.get("patch", 4))
    other = ViT(new).eval()
    other.load_state_dict(adapt(model.state_dict(), model.config, new))
    return other


def smooth_images(size: int = 16) -> Tensor:
    coarse = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    return F.interpolate(coarse, size=(size, size), mode="bicubic", antialias=True)


def enlarged(images: Tensor, patch: int, new: int) -> Tensor:
    """Each patch of an image resized by itself."""
    side = images.shape[-1] // patch
    cut = rearrange(images, "b c (h p) (w q) -> (b h w) c p q", p=patch, q=patch)
    cut = F.interpolate(cut, size=(new, new), mode="bicubic", antialias=True)
    return rearrange(cut, "(b h w) c p q -> b c (h p) (w q)", h=side, w=side)


# Positions


def positions(coordinates: str, old: int, **changes: Any) -> ViTConfig:
    """A model whose images have `old` patches along a side, and no learned tokens unless asked for."""
    return config(coordinates=coordinates, image_size=4 * old, **changes)


@pytest.mark.parametrize(("old", "new"), [(4, 6), (14, 10)])
def test_a_grid_is_resampled_by_bicubic_interpolation(old: int, new: int) -> None:
    table = torch.randn(1 + old * old, 24)
    resampled = resample_positions(table, positions("raster", old, pool="class"), new)
    image = table[1:].T.reshape(1, 24, old, old)
    expected = F.interpolate(image, size=(new, new), mode="bicubic", antialias=True).flatten(2)[0].T
    torch.testing.assert_close(resampled, torch.cat((table[:1], expected)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", [3, 9])
def test_an_axis_is_resampled_as_a_grid_of_equal_rows_is(length: int) -> None:
    line = torch.randn(6, 8)
    rows = line.repeat_interleave(6, dim=0)  # the same along each row
    of_rows = resample_positions(rows, positions("raster", 6), length).view(length, length, 8)
    of_line = resample_positions(line, positions("grid", 6), length)
    torch.testing.assert_close(of_rows, of_line[:, None].expand_as(of_rows), atol=1e-5, rtol=0)


@pytest.mark.parametrize("coordinates", ["grid", "raster"])
def test_resampled_positions_keep_their_type(coordinates: str) -> None:
    table = torch.randn(16 if coordinates == "raster" else 4, 8).bfloat16()
    assert resample_positions(table, positions(coordinates, 4), 6).dtype == torch.bfloat16


# Patch kernels


@pytest.mark.parametrize(("old", "new"), [(4, 8), (16, 8), (8, 14), (16, 32)])
def test_kernels_are_the_least_squares_solution(old: int, new: int) -> None:
    """Beyer 2023, equation 4, in float64."""
    kernel = torch.randn(12, 3 * old * old)
    pixels = torch.eye(old * old, dtype=torch.float64).view(-1, 1, old, old)
    resizing = F.interpolate(pixels, size=(new, new), mode="bicubic", antialias=True).flatten(1)
    expected = (kernel.double().view(12, 3, -1) @ torch.linalg.pinv(resizing.T)).flatten(1).float()
    torch.testing.assert_close(resample_kernel(kernel, old, new), expected, atol=1e-4 * expected.std(), rtol=0)


@pytest.mark.parametrize("new", [6, 8, 12])
def test_enlarged_patches_have_the_same_tokens(new: int) -> None:
    model, images = awake(ViT(config())), torch.randn(2, 3, 16, 16)
    larger = adapted(model, image_size=4 * new, patch=new)
    before, after = model.embed(images)[0], larger.embed(enlarged(images, 4, new))[0]
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


def test_an_enlarged_image_is_classified_much_as_before() -> None:
    model = awake(ViT(config("learned", pool="class", coordinates="raster")))
    images, larger = smooth_images(), adapted(model, image_size=32, patch=8)
    before = model(images)
    after = larger(F.interpolate(images, size=(32, 32), mode="bicubic", antialias=True))
    assert (after - before).square().mean() < 0.01 * before.var()


def test_a_reduced_kernel_keeps_the_products_with_reduced_images() -> None:
    weight, images = torch.randn(12, 3 * 8 * 8), smooth_images(64)
    reduced = F.interpolate(images, size=(32, 32), mode="bicubic", antialias=True)
    before = patchify(images, 8) @ weight.T
    after = patchify(reduced, 4) @ resample_kernel(weight, 8, 4).T
    assert (after - before).square().mean() < 0.05 * before.var()


def test_whitening_becomes_a_part_of_the_kernel_where_the_patch_changes() -> None:
    model = awake(ViT(config(inputs="whitened")))
    images = smooth_images() + 0.3 * torch.randn(4, 3, 16, 16)
    assert isinstance(model.embed.patches, WhitenedPatchEmbedding)
    model.embed.patches.fit(images)
    before = model.embed(images)[0]

    larger = adapted(model, image_size=32, patch=8)
    assert larger.config.inputs == "pixels"
    torch.testing.assert_close(larger.embed(enlarged(images, 4, 8))[0], before, atol=1e-4, rtol=0)

    wider = adapted(model, image_size=32)
    assert wider.config.inputs == "whitened"
    torch.testing.assert_close(wider.embed(images.repeat(1, 1, 2, 2))[0][:, :4], before[:, :4], atol=1e-5, rtol=0)


# Whole models


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("coordinates", ["grid", "raster"])
@pytest.mark.parametrize("position", POSITIONS)
def test_every_kind_of_model_can_be_brought_to_other_images(position: str, coordinates: str, tokens: str) -> None:
    model = awake(ViT(config(position, coordinates=coordinates, **TOKENS[tokens])))
    for image_size, patch in ((24, 4), (8, 4), (32, 8), (16, 2)):
        other = adapted(model, image_size=image_size, patch=patch)
        assert other(torch.randn(2, 3, image_size, image_size)).isfinite().all()
        kept = dict(model.named_parameters())
        for name, parameter in other.named_parameters():
            if "core.position" not in name and "embed.patches" not in name:
                assert torch.equal(parameter, kept[name]), name


@pytest.mark.parametrize("coordinates", ["grid", "raster"])
@pytest.mark.parametrize("position", POSITIONS)
def test_the_same_images_need_no_change(position: str, coordinates: str) -> None:
    model = awake(ViT(config(position, coordinates=coordinates, pool="class")))
    assert resized(model.config, 16, 4) == model.config
    weights = adapt(model.state_dict(), model.config, model.config)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("coordinates", ["grid", "raster"])
def test_positions_of_learned_tokens_stay_where_they_are(coordinates: str) -> None:
    model = awake(ViT(config("learned", coordinates=coordinates, pool="class", registers=2)))
    other = adapted(model, image_size=24)
    first = 3 if coordinates == "raster" else 1
    for before, after in zip(model.core.position.parameters(), other.core.position.parameters(), strict=True):
        assert torch.equal(after[:first], before[:first])
        assert len(after) == first + (36 if coordinates == "raster" else 6)


def test_patches_of_half_the_side_are_where_the_whole_ones_were() -> None:
    for position in ("rotary", "sinusoidal", "alibi"):
        c = config(position, pool="class")
        fine = resized(c, 16, 2)
        assert fine.coordinate_side == 4
        assert resized(fine, 16, 4) == c, "there and back"
        assert resized(fine, 32, 2).coordinate_side == 4, "the scale is that of the weights"
        at, finer = (ViT(each).embed.locate()[1:].float() for each in (c, fine))
        middle = rearrange(finer, "(h i w j) a -> (h w) (i j) a", h=4, i=2, j=2).mean(1)
        torch.testing.assert_close(middle, at)


# Classes, and what cannot be


def test_a_head_of_other_classes_is_left_to_be_learned() -> None:
    model = awake(ViT(config()))
    weights = adapt(model.state_dict(), model.config, replace(model.config, classes=7))
    assert set(model.state_dict()) - set(weights) == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 1},
        {"pool": "class"},
        {"registers": 1},
        {"coordinates": "raster"},
        {"inputs": "whitened"},
        {"final_norm": "pooled"},
        {"core": shape("learned", depth=3)},
        {"core": shape("none")},
    ],
)
def test_models_that_differ_in_more_are_refused(changes: dict[str, Any]) -> None:
    old = config()
    with pytest.raises(ValueError, match="differ in more than image_size, patch and classes"):
        adapt(ViT(old).state_dict(), old, replace(old, **changes))


def test_a_conv_tokenizer_takes_other_images_but_keeps_its_shrinking() -> None:
    model = awake(ViT(config(tokenizer="conv", pool="attention", coordinates="raster")))
    assert adapted(model, image_size=32)(torch.randn(1, 3, 32, 32)).shape == (1, 5)
    with pytest.raises(ValueError, match="patch = 8 must stay 4"):
        resized(model.config, 32, 8)


def test_a_patch_that_does_not_divide_the_images_is_refused() -> None:
    for position in ("learned", "rotary"):
        with pytest.raises(ValueError, match="patch = 5 must divide image_size = 16"):
            resized(config(position), 16, 5)
