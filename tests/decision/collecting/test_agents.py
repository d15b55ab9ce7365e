"""Agents of stable-baselines3: which files and spaces are taken, and that they act as before."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from core.cli.exits import StopRequest
from decision.collecting import agents
from decision.collecting.agents import read_agent
from decision.collecting.config import CollectConfig
from decision.collecting.pickles import read_pickle
from decision.collecting.record import collect
from decision.collecting.recording import Recorder
from tests.decision.corridor import ID, OPEN, SLOPE


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "a2c", "td3", "dqn"])
def test_an_agent_acts_as_before_when_it_is_loaded(tmp_path: Path, algorithm: str) -> None:
    pytest.importorskip("stable_baselines3")
    stop, path = StopRequest(), tmp_path / "agent.pt"
    where = ID if algorithm == "dqn" else SLOPE
    one, other = (agents.Agent(algorithm, [Recorder(gymnasium.make(where), stop)], seed) for seed in (1, 2))
    one.model.learn(150)
    one.save(path, policy=algorithm)
    assert other.load(path) == {"policy": algorithm}
    assert other.steps == one.steps >= 150
    seen = np.random.default_rng(0).normal(size=(20, 2))
    assert np.array_equal(one.behaviour([7]).act(seen), other.behaviour([7]).act(seen))
    for damage in (path.read_bytes()[:-900], b"", b"\x80\x02cposix\nsystem\n."):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=r"agent.pt is damaged"):
            other.load(path)


def saved_by_the_library(path: Path, environment: str = ID, **settings: Any) -> Any:
    library = pytest.importorskip("stable_baselines3")
    agent = library.PPO("MlpPolicy", gymnasium.make(environment), seed=1, device="cpu", **settings)
    agent.save(path)
    return agent


def test_an_agent_that_the_library_saved_acts_as_it_did(config: CollectConfig, tmp_path: Path) -> None:
    original = saved_by_the_library(tmp_path / "agent.zip", policy_kwargs={"net_arch": [8]})
    agent = read_agent(tmp_path / "agent.zip", [Recorder(gymnasium.make(ID), StopRequest())])
    seen = np.random.default_rng(0).normal(size=(20, 2))
    torch.manual_seed(5)
    actions = agent.behaviour([5]).act(seen)
    torch.manual_seed(5)
    assert actions.tolist() == original.predict(seen)[0].tolist()
    assert collect(replace(config, policy=str(tmp_path / "agent.zip"))).steps >= 200


SAVED = {
    "PPO": (ID, {"policy_kwargs": {"activation_fn": torch.nn.ReLU, "net_arch": [8]}, "n_steps": 8}),
    "A2C": (ID, {"policy_kwargs": {"net_arch": [8]}}),
    "DQN": (ID, {"learning_starts": 4}),
    "TD3": (SLOPE, {"learning_starts": 4}),
    "SAC": (SLOPE, {"learning_starts": 4}),
}


@pytest.mark.parametrize("algorithm", SAVED)
def test_an_agent_of_every_algorithm_acts_by_the_statistics_that_were_saved_with_it(
    algorithm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = pytest.importorskip("stable_baselines3")
    environment, settings = SAVED[algorithm]
    vectors = library.common.vec_env
    normalised = vectors.VecNormalize(vectors.DummyVecEnv([lambda: gymnasium.make(environment)]), clip_obs=0.7)
    original = getattr(library, algorithm)("MlpPolicy", normalised, seed=1, device="cpu", **settings)
    original.learn(16).save(tmp_path / "agent.zip")
    recorders = [Recorder(gymnasium.make(environment), StopRequest())]
    if algorithm in ("PPO", "A2C"):
        with pytest.raises(ValueError, match="behind VecNormalize, whose statistics are missing: .*--statistics"):
            read_agent(tmp_path / "agent.zip", recorders)
    else:
        read_agent(tmp_path / "agent.zip", recorders)
        assert "may have been trained behind VecNormalize" in capsys.readouterr().err
    normalised.save(tmp_path / "vecnormalize.pkl")
    seen = np.random.default_rng(0).normal(size=(20, 2))

    def acted(agent: agents.Agent) -> list[Any]:
        torch.manual_seed(5)
        return agent.act(seen).tolist()

    torch.manual_seed(5)
    expected = original.policy.predict(normalised.normalize_obs(seen))[0].tolist()
    assert acted(read_agent(tmp_path / "agent.zip", recorders)) == expected
    assert "normalised by" in capsys.readouterr().err
    (tmp_path / "vecnormalize.pkl").rename(tmp_path / "other.pkl")
    assert acted(read_agent(tmp_path / "agent.zip", recorders, str(tmp_path / "other.pkl"))) == expected
    assert environment == ID or acted(read_agent(tmp_path / "agent.zip", recorders, "none")) != expected


def test_statistics_of_another_kind_are_refused(tmp_path: Path) -> None:
    saved_by_the_library(tmp_path / "agent.zip")
    recorders = [Recorder(gymnasium.make(ID), StopRequest())]
    for content in (b"", b"junk", pickle.dumps({"norm_obs": True}), pickle.dumps(Path("x"))):
        (tmp_path / "statistics.pkl").write_bytes(content)
        with pytest.raises(ValueError, match=r"statistics.pkl is not a file that VecNormalize saved"):
            read_agent(tmp_path / "agent.zip", recorders, str(tmp_path / "statistics.pkl"))


class Touches:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    content = pickle.dumps([Touches(tmp_path / "ran"), np.arange(3.0), {"optimizer_class": torch.optim.RMSprop}])
    _, array, classes = read_pickle(content)
    assert (array.tolist(), classes) == ([0, 1, 2], {"optimizer_class": torch.optim.RMSprop})
    assert not (tmp_path / "ran").exists()
    pickle.loads(content)
    assert (tmp_path / "ran").exists()


def described_by(path: Path, data: Any) -> None:
    """Rewrites an agent's file, its settings being `data`."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (parts | {"data": json.dumps(data).encode()}).items():
            archive.writestr(name, content)


def Features(*arguments: Any, **settings: Any) -> Any:  # noqa: N802
    """A part of a network that only a pickle can name."""
    from stable_baselines3.common.torch_layers import FlattenExtractor

    return FlattenExtractor(*arguments, **settings)


def test_agents_that_cannot_be_read_are_refused(config: CollectConfig, tmp_path: Path) -> None:
    saved_by_the_library(tmp_path / "agent.zip", policy_kwargs={"features_extractor_class": Features})
    with pytest.raises(ValueError, match="the network of .*agent.zip is described by a pickle, which is not read"):
        collect(replace(config, policy=str(tmp_path / "agent.zip")))
    saved_by_the_library(tmp_path / "agent.zip", "CartPole-v1")
    with pytest.raises(ValueError, match=f"agent.zip is not an agent of PPO's for {ID[-11:]}: "):
        collect(replace(config, policy=str(tmp_path / "agent.zip")))
    described_by(tmp_path / "agent.zip", {"policy_kwargs": {"lstm_hidden_size": 8}})
    with pytest.raises(ValueError, match=r"agent.zip is not an agent of PPO's for Corridor-v0: .*lstm_hidden_size"):
        collect(replace(config, policy=str(tmp_path / "agent.zip")))
    for data in ([], {"policy_kwargs": None}):
        described_by(tmp_path / "agent.zip", data)
        with pytest.raises(ValueError, match="agent.zip is cut short, .*: it does not"):
            collect(replace(config, policy=str(tmp_path / "agent.zip")))
    (tmp_path / "agent.zip").write_bytes((tmp_path / "agent.zip").read_bytes()[:1000])
    with pytest.raises(ValueError, match="agent.zip is cut short"):
        collect(replace(config, policy=str(tmp_path / "agent.zip")))


@pytest.mark.parametrize(
    ("algorithm", "environment", "sentence"),
    [
        ("sac", ID, "takes continuous actions, those of Corridor-v0 are discrete"),
        ("td3", ID, "takes continuous actions, those of Corridor-v0 are discrete"),
        ("dqn", SLOPE, "takes one choice, those of Slope-v0 are box"),
    ],
)
def test_algorithms_are_refused_where_they_do_not_take_the_actions(
    config: CollectConfig, algorithm: str, environment: str, sentence: str
) -> None:
    pytest.importorskip("stable_baselines3")
    with pytest.raises(ValueError, match=f"policy = '{algorithm}' {sentence}"):
        collect(replace(config, policy=algorithm, env=environment))


@pytest.mark.parametrize(
    ("where", "space", "sentence"),
    [
        ("action_space", Discrete(2, start=1), "takes choices numbered from 0, the actions of Open-v0 are dis"),
        ("observation_space", Discrete(2, start=-1), "takes choices numbered from 0, the observations of Open"),
        ("action_space", Box(-np.inf, np.inf, (2,)), "does not fit Open-v0: .* must have a finite lower and upper bou"),
    ],
)
def test_spaces_that_the_library_does_not_take_are_refused(where: str, space: Any, sentence: str) -> None:
    pytest.importorskip("stable_baselines3")
    environment = gymnasium.make(OPEN)
    setattr(environment, where, space)
    with pytest.raises(ValueError, match=f"^policy = 'ppo' {sentence}"):
        agents.Agent("ppo", [Recorder(environment, StopRequest())], seed=0)
