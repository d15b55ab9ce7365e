"""Rounds of acting: what is learnt from, and with which returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.training.run import Run
from decision.config import OnlineConfig, TrainConfig
from decision.data.store import Trajectories
from decision.data.summary import Summary
from decision.environments.make import open_environments
from decision.models.config import DecisionConfig
from decision.models.decision_transformer import DecisionTransformer
from decision.presets import modern_core
from decision.tasks.imitation import Imitation
from decision.tasks.online import OnlineRounds

SHAPE = DecisionConfig(context=5, core=modern_core(16, 1, 2))


@pytest.fixture
def rounds(cartpole: Trajectories, tmp_path: Path) -> Iterator[OnlineRounds]:
    """One that learns from 20 episodes, 3 new ones every 4 steps."""
    spaces = {"observation_space": cartpole.observation_space, "action_space": cartpole.action_space}
    shape = replace(SHAPE, max_timestep=500, context=5, **spaces)
    agent, online = DecisionTransformer(shape), OnlineConfig(every=4, episodes=3, capacity=20)
    config = TrainConfig(
        out=tmp_path / "run", steps=9, device="cpu", precision="fp32", batch_size=8, online=online, model=shape
    )
    with open_environments("CartPole-v1", 2) as environments, Run(config) as run:
        task = Imitation(cartpole, Summary.of(cartpole), config, environments, run.device)
        run.prepare(task.objective(agent), agent, lambda model: torch.optim.SGD(model.parameters()))
        yield OnlineRounds(run, task)


def test_the_newest_and_the_best_are_learnt_from(rounds: OnlineRounds, cartpole: Trajectories) -> None:
    rounds.act_when_due()
    first = rounds.newest
    assert first is not None
    best = np.sort(cartpole.returns())[-17:]
    np.testing.assert_array_equal(rounds.task.windows.data.returns(), [*best, *first.returns()])
    rounds.run.step = 3
    rounds.act_when_due()
    assert rounds.newest is first
    rounds.run.step = 4
    rounds.act_when_due()
    assert rounds.newest is not first
    assert rounds.newest is not None
    np.testing.assert_array_equal(
        rounds.task.windows.data.returns(), [*best[3:], *first.returns(), *rounds.newest.returns()]
    )


def test_what_is_taught_is_the_return_that_was_reached(rounds: OnlineRounds) -> None:
    """And not the one that was asked for: in CartPole, the steps that were still to come."""
    rounds.act_when_due()
    for window in (rounds.task.windows.batch(step)[0] for step in range(4)):
        togo = window.returns.squeeze(-1) * rounds.task.windows.normaliser.return_scale
        lasting = {*rounds.task.windows.data.lengths().tolist()}
        assert {*(togo + window.timesteps)[window.valid()].round().int().tolist()} <= lasting
    assert rounds.newest is not None
    assert rounds.newest.provenance["target"] not in lasting
