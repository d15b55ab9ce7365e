"""Every model is its features and its head, so that explaining, embedding and probing need no hooks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from decision.environments.spaces import Space
from decision.models.decision_transformer import DecisionConfig, DecisionTransformer
from decision.models.tokens import Window
from tests.core.helpers import awake
from text.models.gpt import GPT, GPTConfig
from vision.models.dit import DiT, DiTConfig
from vision.models.vit import ViT, ViTConfig

CORE = TransformerConfig(dim=32, depth=2, n_heads=4)


def test_a_gpt():
    model, ids = awake(GPT(GPTConfig(vocab_size=11, context=8, core=CORE))), torch.randint(0, 11, (2, 7))
    features = model.features(ids)
    assert features.shape == (2, 7, 32)
    assert torch.equal(model.head(features), model(ids))
    torch.testing.assert_close(model.features(ids, read=slice(-2, None)), features[:, -2:])


@pytest.mark.parametrize("final_norm", ["tokens", "pooled"])
@pytest.mark.parametrize("pool", ["mean", "class", "attention"])
def test_a_vit(pool, final_norm):
    config = ViTConfig(image_size=8, channels=1, classes=5, pool=pool, final_norm=final_norm, registers=2, core=CORE)
    model, images = awake(ViT(config)), torch.randn(2, 1, 8, 8)
    features = model.features(images)
    assert features.shape == (2, config.learned_tokens + 4, 32)
    pooled = model.norm(model.pool(features[:, model.pool.read]))
    torch.testing.assert_close(model.pooled(images), pooled)
    assert torch.equal(model.head(model.pooled(images)), model(images))


def test_a_dit():
    core = replace(CORE, modulation="adaln", position=PositionConfig("learned"))
    model = awake(DiT(DiTConfig(image_size=8, channels=1, classes=5, patch=2, core=core)))
    batch = torch.randn(2, 1, 8, 8), torch.rand(2), torch.tensor([0, 5])
    features = model.features(*batch)
    assert features.shape == (2, 16, 32)
    assert torch.equal(model.join(model.head(features)), model(*batch))


def test_a_decision_transformer():
    box = Space("box", (3,), "float32", (None,), (None,))
    core = TransformerConfig(dim=32, depth=2, n_heads=4, position=PositionConfig("none"))
    model = awake(DecisionTransformer(DecisionConfig(box, box, context=4, max_timestep=9, core=core)))
    times = torch.arange(4).expand(2, 4)
    window = Window(torch.rand(2, 4, 1), torch.randn(2, 4, 3), torch.randn(2, 4, 3), times, torch.tensor([0, 2]))
    features = model.features(window)
    assert features.shape == (2, 4, 32)
    torch.testing.assert_close(model.head(features), model(window))
