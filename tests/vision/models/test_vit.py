"""A ViT is a set function of patches that know where they are; its configuration refuses what cannot be."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from core.attention import record_attention
from core.config import PositionConfig, TransformerConfig
from core.files.serialize import from_dict, to_dict
from core.graph import full
from tests.core.helpers import POSITIONS, awake, shape
from vision.models.config import ViTConfig
from vision.models.vit import ViT
from vision.tasks.classification import ClassificationLoss


def config(position: str = "rotary", **changes: Any) -> ViTConfig:
    """8 x 8 pixels in patches of 2, five classes, two blocks."""
    direction = "both" if position == "t5" else "past"
    own = {"image_size": 8, "channels": 3, "classes": 5, "patch": 2, "core": shape(position, direction=direction)}
    return ViTConfig(**own | changes)


def vit(position: str = "rotary", **changes: Any) -> ViT:
    return awake(ViT(config(position, **changes)))


def some_images(count: int = 3, seed: int = 4) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def assert_same(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    assert a.std() > 0.1, "outputs that differ, so that equality says something"
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


# What a model is a function of

POOLS: dict[str, dict[str, Any]] = {
    "mean": {"pool": "mean"},
    "mean and registers": {"pool": "mean", "registers": 2},
    "normalised after pooling": {"pool": "mean", "final_norm": "pooled"},
    "class": {"pool": "class"},
    "class and registers": {"pool": "class", "registers": 2},
    "attention": {"pool": "attention"},
    "attention and registers": {"pool": "attention", "registers": 1},
}


@torch.no_grad()
def read(model: ViT, rearranged: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """The logits of images whose patches were rearranged on their way into the core."""
    x, coords = model.embed(some_images())
    learned = model.config.learned_tokens
    patches, places = rearranged(x[:, learned:], coords[learned:])
    x, coords = torch.cat((x[:, :learned], patches), 1), torch.cat((coords[:learned], places))
    return model.head(model.norm(model.pool(model.core(x, coords, full(), read=model.pool.read))))


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("position", POSITIONS)
def test_the_order_of_patches_says_nothing_and_their_coordinates_all(position: str, pool: str) -> None:
    model, order = vit(position, **POOLS[pool]), torch.randperm(16)
    expected = model(some_images())
    assert_same(expected, read(model, lambda patches, coords: (patches[:, order], coords[order])))
    moved = read(model, lambda patches, coords: (patches[:, order], coords))
    if position == "none":
        assert_same(expected, moved)
    else:
        assert (moved - expected).abs().max() > 1e-3


@pytest.mark.parametrize("pool", POOLS)
def test_an_image_is_classified_by_itself(pool: str) -> None:
    model, images = vit(**POOLS[pool]), some_images()
    together = model(images)
    assert together.shape == (3, 5)
    assert_same(together, torch.cat([model(image) for image in images.split(1)]))
    assert torch.equal(model(images), together)


@pytest.mark.parametrize("pool", POOLS)
def test_every_parameter_of_a_model_can_learn(pool: str) -> None:
    model = vit(**POOLS[pool]).train()
    ClassificationLoss(model)(some_images(), torch.tensor([0, 3, 1])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name != "pool.attention.bias":  # the same for all patches, which a softmax does not see
            assert parameter.grad.abs().max() > 1e-7, name


def test_the_class_token_alone_is_read_or_the_patches_alone() -> None:
    for pool, registers in (("class", 2), ("mean", 2), ("attention", 2)):
        model = vit(pool=pool, registers=registers)
        tokens = torch.randn(2, model.config.learned_tokens + 16, 32, requires_grad=True)
        model.pool(tokens[:, model.pool.read]).square().sum().backward()
        assert tokens.grad is not None
        heard = tokens.grad.abs().sum((0, 2)) > 0
        expected = torch.arange(len(heard)) == 0 if pool == "class" else torch.arange(len(heard)) >= registers
        assert torch.equal(heard, expected)


def test_attention_pooling_is_a_mean_with_weights_of_its_own() -> None:
    model, tokens = vit(pool="attention"), torch.randn(2, 16, 32)
    assert model.pool.attention is not None
    scores = model.pool.attention(tokens).squeeze(-1)
    for image in range(2):
        weights = scores[image].exp() / scores[image].exp().sum()
        expected = (weights.unsqueeze(-1) * tokens[image]).sum(0)
        torch.testing.assert_close(model.pool(tokens)[image], expected, atol=1e-5, rtol=0)
    with torch.no_grad():
        model.pool.attention.weight.zero_()
    torch.testing.assert_close(model.pool(tokens), tokens.mean(1), atol=1e-6, rtol=0)


def test_a_class_token_may_be_normalised_before_or_after_it_is_taken() -> None:
    before, after = vit(pool="class"), vit(pool="class", final_norm="pooled")
    renamed = {name.replace("core.norm.", "norm."): tensor for name, tensor in before.state_dict().items()}
    after.load_state_dict(renamed)
    assert_same(before(some_images()), after(some_images()))


def test_a_grid_in_its_own_coordinates_changes_nothing() -> None:
    for position in ("rotary", "sinusoidal", "alibi"):
        plain, scaled = vit(position), vit(position, coordinate_side=4)
        assert_same(plain(some_images()), scaled(some_images()))
        coarse = vit(position, coordinate_side=2)
        assert (coarse(some_images()) - plain(some_images())).abs().max() > 1e-3


def test_a_copy_runs_its_own_layers() -> None:
    model, images = vit(pool="class", registers=1), some_images()
    expected = model(images)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(images), expected)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert twin(images).eq(0).all()
    assert torch.equal(model(images), expected)


def test_attention_maps_are_over_learned_tokens_and_patches() -> None:
    model = vit(pool="class", registers=2)
    with record_attention(model) as maps:
        model(some_images())
    assert list(maps) == [f"core.blocks.{layer}.attention.branch" for layer in range(2)]
    for weights in maps.values():
        assert weights.shape == (3, 4, 3 + 16, 3 + 16)
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 19))


def test_grey_images_are_classified_too() -> None:
    assert vit(channels=1)(some_images()[:, :1]).shape == (3, 5)


# What it is made of


def test_cct_has_the_size_that_its_paper_states() -> None:
    """CCT-7/3x1 on 32 x 32 pixels: 3.76 M parameters (Hassani 2021, table 1), 256 tokens."""
    core = TransformerConfig(256, 7, 4, ffn_dim=512, position=PositionConfig("learned"))
    cct = ViT(
        ViTConfig(
            image_size=32,
            channels=3,
            classes=10,
            patch=2,
            tokenizer="conv",
            pool="attention",
            coordinates="raster",
            core=core,
        )
    )
    tokens, coords = cct.embed(torch.randn(1, 3, 32, 32))
    assert tokens.shape == (1, 256, 256)
    assert len(coords) == 256
    assert 3.75e6 < sum(p.numel() for p in cct.parameters()) < 3.77e6


def test_tokens_of_images_at_unit_scale_are_at_unit_scale() -> None:
    for patch in (2, 4, 8):
        model = ViT(ViTConfig(image_size=32, channels=3, classes=5, patch=patch, core=shape()))
        tokens, _ = model.embed(torch.randn(8, 3, 32, 32))
        assert 0.9 < tokens.std() < 1.1


@pytest.mark.parametrize("position", ["learned", "t5", "rotary"])
@pytest.mark.parametrize("pool", ["mean", "class"])
def test_tables_and_learned_tokens_are_spared_weight_decay(position: str, pool: str) -> None:
    model = vit(position, pool=pool)
    spared, named = model.no_weight_decay(), dict(model.named_parameters())
    assert spared <= set(named)
    tables = {name for name in named if "position" in name}
    assert spared == tables | ({"embed.learned"} if pool == "class" else set())
    assert len(tables) == (0 if position == "rotary" else 2)


# The objective


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_of_the_logits_in_sum(smoothing: float) -> None:
    model, images, targets = vit(), some_images(), torch.tensor([4, 0, 2])
    loss = ClassificationLoss(model, smoothing)(images, targets)
    torch.testing.assert_close(
        loss, F.cross_entropy(model(images), targets, label_smoothing=smoothing, reduction="sum")
    )
    surprise = -model(images).log_softmax(-1)
    by_hand = (1 - smoothing) * surprise[torch.arange(3), targets] + smoothing * surprise.mean(-1)
    torch.testing.assert_close(loss, by_hand.sum())


def test_shares_are_taken_as_they_are_and_equal_classes_where_they_are_whole() -> None:
    model, images, targets = vit(), some_images(), torch.tensor([4, 0, 2])
    whole = F.one_hot(targets, 5).float()
    for smoothing in (0.0, 0.1):
        soft = ClassificationLoss(model, smoothing)
        torch.testing.assert_close(soft(images, whole), ClassificationLoss(model)(images, targets))
    mixed = 0.3 * whole + 0.7 * whole.roll(1, 0)
    by_hand = 0.3 * soft(images, whole) + 0.7 * soft(images, whole.roll(1, 0))
    torch.testing.assert_close(soft(images, mixed), by_hand)


def test_half_precision_logits_are_summed_in_float32() -> None:
    model = vit().to(torch.bfloat16)
    loss = ClassificationLoss(model)(some_images().bfloat16(), torch.tensor([4, 0, 2]))
    assert loss.dtype == torch.float32


def test_a_head_of_zeros_is_as_unsure_as_can_be() -> None:
    model = ViT(config(core=shape(init="zero-residual")))
    loss = ClassificationLoss(model)(some_images(), torch.tensor([4, 0, 2]))
    assert loss.item() == pytest.approx(3 * math.log(5), rel=1e-6)


# The configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 0}, "image_size = 0 must be above 0"),
        ({"patch": -2}, "patch = -2 must be above 0"),
        ({"patch": 3}, "patch = 3 must divide image_size = 8"),
        ({"channels": -1}, "channels = -1 must be at least 0"),
        ({"classes": -1}, "classes = -1 must be at least 0"),
        ({"registers": -1}, "registers = -1 must be at least 0"),
        ({"pool": "max"}, "pool = 'max' is not one of: mean, class, attention"),
        ({"tokenizer": "cnn"}, "tokenizer = 'cnn' is not one of: patches, conv"),
        ({"inputs": "white"}, "inputs = 'white' is not one of: pixels, whitened"),
        ({"coordinates": "xy"}, "coordinates = 'xy' is not one of: grid, raster"),
        ({"final_norm": "none"}, "final_norm = 'none' is not one of: tokens, pooled"),
        ({"tokenizer": "conv", "image_size": 12, "patch": 6}, "patch = 6 must be a power of 2 for tokenizer = 'conv'"),
        ({"tokenizer": "conv", "patch": 1}, "patch = 1 must be a power of 2 for tokenizer = 'conv'"),
        ({"tokenizer": "conv", "inputs": "whitened"}, "inputs = 'whitened' needs tokenizer = 'patches'"),
        ({"coordinate_side": 0}, "coordinate_side = 0 must be above 0"),
        ({"coordinate_side": 8, "coordinates": "raster"}, "coordinate_side = 8 needs coordinates = 'grid'"),
        ({"coordinate_side": 8, "core": shape("learned")}, "coordinate_side = 8 .* not 'learned'"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_is_refused_by_field_and_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


@pytest.mark.parametrize("name", ["channels", "classes"])
def test_a_model_is_not_built_before_its_data_is_known(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} = 0: set it to the data's"):
        ViT(replace(config(), **{name: 0}))


def test_positions_that_two_axes_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="head_dim = 6 must be a multiple of 4 for rotary positions of 2 axes"):
        ViT(config(core=TransformerConfig(24, 2, 4)))


@pytest.mark.parametrize("pool", POOLS)
def test_a_configuration_survives_json(pool: str) -> None:
    c = config(**POOLS[pool])
    assert from_dict(ViTConfig, to_dict(c)) == c
