"""Attention maps and rollout by arithmetic."""

from __future__ import annotations

import math

import pytest
import torch

from tests.vision.runs import SHAPES
from vision.models.vit import ViT
from vision.reports.attention_maps import join_heads, on_grid, pooled_attention, pooling_weights, rollout


def some_attention(batch: int = 2, n_heads: int = 3, tokens: int = 5) -> torch.Tensor:
    return torch.randn(batch, n_heads, tokens, tokens, dtype=torch.float64).mul(2).softmax(-1)


def test_rollout_of_two_tokens_by_hand() -> None:
    first = torch.tensor([[[0.5, 0.5], [0.0, 1.0]]])  # with the residual: 3/4 1/4, 0 1
    second = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])  # 1 0, 1/4 3/4
    expected = torch.tensor([[[3 / 4, 1 / 4], [3 / 16, 13 / 16]]])
    torch.testing.assert_close(rollout([first, second]), expected)


def test_rows_of_a_rollout_sum_to_one() -> None:
    total = rollout([join_heads(some_attention(), head) for head in ("mean", "max", "2")])
    torch.testing.assert_close(total.sum(-1), torch.ones_like(total[..., 0]))
    assert (total >= 0).all()


def test_tokens_that_attend_only_to_themselves_stay_themselves() -> None:
    identity = torch.eye(5).expand(2, 5, 5)
    torch.testing.assert_close(rollout([identity] * 4), identity)


def test_uniform_attention_gives_a_uniform_map() -> None:
    uniform = torch.full((1, 5, 5), 1 / 5)
    kept = 1 / 2**3  # what has come by the residual path alone, through three layers
    expected = kept * torch.eye(5) + (1 - kept) * uniform
    torch.testing.assert_close(rollout([uniform] * 3), expected)
    torch.testing.assert_close(pooled_attention(expected, torch.full((1, 5), 1 / 5)), torch.full((1, 5), 1 / 5))


def test_heads_are_joined_by_mean_and_max_or_taken_one_by_one() -> None:
    attention = some_attention()
    torch.testing.assert_close(join_heads(attention, "mean"), attention.mean(1))
    assert (join_heads(attention, "3") == attention[:, 2]).all()
    greatest = join_heads(attention, "max")
    torch.testing.assert_close(greatest.sum(-1), torch.ones(2, 5, dtype=torch.float64))
    assert (greatest.argmax(-1) == attention.amax(1).argmax(-1)).all()


@pytest.mark.parametrize("head", ["0", "4", "-1", "average", ""])
def test_a_head_that_is_none(head: str) -> None:
    with pytest.raises(ValueError, match=r"head = .*mean, max, 1 to 3"):
        join_heads(some_attention(), head)


def test_a_map_lies_as_the_image_does_without_the_learned_tokens() -> None:
    tokens = torch.tensor([[0.4, 0.1, 0.05, 0.1, 0.35]])  # a class token, then two rows of two patches
    torch.testing.assert_close(on_grid(tokens, 1, 2), torch.tensor([[[0.5, 0.25], [0.5, 1.75]]]))


@pytest.mark.parametrize("kind", SHAPES)
def test_the_weights_are_those_of_the_pooling(kind: str) -> None:
    config = SHAPES[kind]
    pool = ViT(config).pool
    x = torch.randn(3, config.learned_tokens + math.prod(config.grid), config.core.dim)
    weights = pooling_weights(pool, x)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3))
    torch.testing.assert_close(torch.einsum("bt,btd->bd", weights, x), pool(x[:, pool.read]))
