"""What `decision.explain` shows is what the agent attends to while it acts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.attention import record_attention
from decision.config import TrainConfig
from decision.data.summary import Summary
from decision.explain import ExplainConfig, asked_return
from decision.reports.attention import draw_attended, watch
from decision.trained import Trained
from tests.decision.toys import agent_for


def trained(**changes: object) -> Trained:
    """An agent with random weights in CartPole."""
    model, normaliser = agent_for("CartPole-v1", **changes)
    returns = tuple(np.linspace(0, 9, 101).tolist())
    summary = Summary("CartPole-v1", *model.config.spaces(), normaliser, None, 1, 1, 9, returns)
    return Trained(model, TrainConfig(steps=1), 1, torch.device("cpu"), summary)


@pytest.mark.parametrize(("returns", "kinds"), [("token", 3), ("none", 2)])
def test_shares_of_kinds_and_of_ages_add_up(returns: str, kinds: int) -> None:
    run = trained(returns=returns)
    found, reached = watch(run, ExplainConfig(), 9.0)
    steps, layers = int(reached), run.model.config.core.depth
    assert found.kinds.shape == (steps, layers, kinds)
    assert found.ages.shape == (steps, layers, run.model.config.context)
    assert np.allclose(found.kinds.sum(-1), 1)
    assert np.allclose(found.ages.sum(-1), 1)
    assert (found.kinds[0, :, kinds - 1] == 0).all()  # there is no action yet
    assert found.ages[0, :, 0] == pytest.approx(1)
    assert (found.ages[1, :, 1] > 0).all()


def test_the_model_attends_as_before_once_it_was_watched() -> None:
    run = trained()
    before = [module.attend for module in run.model.modules() if hasattr(module, "attend")]
    watch(run, ExplainConfig(), 9.0)
    assert [module.attend for module in run.model.modules() if hasattr(module, "attend")] == before
    with record_attention(run.model) as maps:
        assert maps == {}


def test_one_return_is_asked_for() -> None:
    assert asked_return(trained(), ExplainConfig()) == 9.0  # the best of the data
    assert asked_return(trained(), ExplainConfig(target_return=(4.0,))) == 4.0
    assert asked_return(trained(returns="none"), ExplainConfig()) is None
    with pytest.raises(ValueError, match="must be one return: one episode is shown"):
        asked_return(trained(), ExplainConfig(target_return=(4.0, 5.0)))
    with pytest.raises(ValueError, match="has no effect: the model takes no return"):
        asked_return(trained(returns="none"), ExplainConfig(target_return=(4.0,)))


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    found, _ = watch(trained(), ExplainConfig(), 9.0)
    draw_attended(found, "CartPole: asked for $9", tmp_path / "attended.png")
    assert Image.open(tmp_path / "attended.png").width == 1350
