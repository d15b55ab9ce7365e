"""Settings of short recordings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from decision.collecting import agents
from decision.collecting.config import CollectConfig
from tests.decision.corridor import ID


@pytest.fixture
def config(tmp_path: Path) -> CollectConfig:
    return CollectConfig(env=ID, steps=200, seed=3, out=str(tmp_path / "data.npz"))


@pytest.fixture
def ppo(config: CollectConfig, monkeypatch: pytest.MonkeyPatch) -> CollectConfig:
    """PPO in a corridor, where it soon goes straight ahead, the sooner for learning from little."""
    pytest.importorskip("stable_baselines3")
    monkeypatch.setitem(agents.ALGORITHMS, "ppo", {"n_steps": 32, "batch_size": 256, "learning_rate": 3e-3})
    return replace(config, policy="ppo", level="0.3", train_steps=20_000)
