"""Environments as they were recorded: arguments, limits, wrappers and entry points, from the data to every command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from decision.collecting.config import CollectConfig
from decision.collecting.record import collect, join
from decision.config import TrainConfig
from decision.data.sources import read_minari, write_minari
from decision.data.store import Trajectories, concatenate
from decision.environments.make import make, registered_limit, step_limit
from decision.environments.settings import AS_REGISTERED, EnvSettings, WrapperSettings, parse_arguments, settings_of
from decision.models.config import DecisionConfig
from decision.presets import modern_core
from decision.tasks.loop import train
from decision.trained import load
from tests.decision.corridor import ID, Corridor
from tests.decision.examples import trajectories
from tests.processes import Command

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:minari")
DRY = "is_slippery=false"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Trajectories:
    """Ice that is not slippery, cut off after 7 steps."""
    out = tmp_path_factory.mktemp("lake") / "dry.npz"
    words = (DRY, "max_episode_steps=7", 'desc=["SFF","FHF","FFG"]')
    return collect(CollectConfig(env="FrozenLake-v1", env_args=words, steps=300, out=str(out)))


def test_words_become_arguments() -> None:
    words = ["is_slippery=false", "old=False", "name=8x8", "desc=[[1, 2]]", "g=-9.8", "max_episode_steps=20", "t=a=b"]
    assert parse_arguments(words) == {
        **{"is_slippery": False, "old": False, "name": "8x8", "desc": [[1, 2]], "g": -9.8},
        **{"max_episode_steps": 20, "t": "a=b"},
    }


@pytest.mark.parametrize(
    "words",
    [("slippery",), ("=1",), ("a-b=1",), ("a=1", "a=2"), ("render_mode=human",)]
    + [(f"max_episode_steps={value}",) for value in ("0", "many", "1.5", "true", "-2")],
)
def test_words_that_are_no_arguments_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"env_args"):
        CollectConfig(env_args=words)
    with pytest.raises(ValueError, match=r"env_args"):
        parse_arguments(words)


def test_data_keeps_how_its_environment_was_made(lake: Trajectories, tmp_path: Path) -> None:
    assert lake.settings.kwargs == {"is_slippery": False, "desc": ["SFF", "FHF", "FFG"]}
    assert (lake.settings.max_steps, lake.lengths().max()) == (7, 7)
    assert lake.settings.entry_point.endswith(":FrozenLakeEnv")
    lake.save(tmp_path / "again.npz")
    assert Trajectories.load(tmp_path / "again.npz").settings == lake.settings
    joined = join([str(tmp_path / "again.npz")] * 2, str(tmp_path / "joined.npz"))
    assert (joined.settings, lake.select([0]).settings) == (lake.settings, lake.settings)


def test_data_of_an_environment_that_was_made_otherwise_is_not_joined(lake: Trajectories) -> None:
    for changed, name in (({"kwargs": {}}, "kwargs"), ({"max_steps": 8}, "max_steps = 8, not 7")):
        with pytest.raises(ValueError, match=f"data set 2 was recorded with {name}"):
            concatenate([lake, replace(lake, settings=replace(lake.settings, **changed))], {})
    unknown = replace(lake, settings=replace(lake.settings, max_steps=None, entry_point=""))
    assert concatenate([lake, unknown], {}).settings == lake.settings


def test_every_command_acts_in_the_recorded_environment(lake: Trajectories, tmp_path: Path, command: Command) -> None:
    """Without ice that slips, the same start and the same actions bring the same episode, which 7 steps end."""
    lake.save(tmp_path / "lake.npz")
    settings: dict[str, Any] = {"steps": 2, "batch_size": 8, "eval_episodes": 2, "precision": "fp32", "device": "cpu"}
    shape = DecisionConfig(context=5, core=modern_core(16, 1, 2))
    train(TrainConfig(data=str(tmp_path / "lake.npz"), out=tmp_path / "run", model=shape, **settings))
    assert load(tmp_path / "run").summary.settings == lake.settings
    assert load(tmp_path / "run").config.model.max_timestep == 7
    options = ("--episodes", 5, "--target-return", 1, "--json")
    for name in ("evaluate", "rollout"):
        figures = json.loads(command(name, tmp_path / "run", *options).out.splitlines()[-1])
        assert figures["target_1/length_mean"] <= 7
        assert figures["target_1/return_std"] == 0
    life = command("evaluate", tmp_path / "run", *options, "--env-args", "max_episode_steps=2")
    assert json.loads(life.out.splitlines()[-1])["target_1/length_mean"] <= 2
    life = command("evaluate", tmp_path / "run", *options, "--env-args", "ice=true")
    assert life.code == 2
    assert "FrozenLake-v1 cannot be made with" in life.err[-1]
    assert "'ice'" in life.err[-1]


def test_minari_keeps_what_gymnasium_was_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    spec = gymnasium.make("CartPole-v1", max_episode_steps=20, sutton_barto_reward=True).spec
    entry = f"{Corridor.__module__}:{Corridor.__qualname__}"
    unregistered = gymnasium.envs.registration.EnvSpec("Mine-v3", entry, max_episode_steps=6, kwargs={"broken": 9})
    wrapped = gymnasium.wrappers.FrameStackObservation(make(unregistered.id, settings_of(unregistered)), 3)
    for name, env in (("short", spec), ("own", unregistered), ("stack", wrapped.spec)):
        made = gymnasium.make(env)
        count = (2, *made.observation_space.shape)
        steps = {"observations": np.zeros(count, made.observation_space.dtype), "actions": np.ones(1, np.int64)}
        buffer = minari.data_collector.EpisodeBuffer(
            id=0, **steps, rewards=[0.0], terminations=[True], truncations=[False], infos={}
        )
        minari.create_dataset_from_buffers(f"{name}-v0", [buffer], env=env)
        data = read_minari(f"{name}-v0")
        again = make(data.environment, data.settings)
        assert (again.spec.max_episode_steps, again.spec.kwargs) == (made.spec.max_episode_steps, made.spec.kwargs)
        assert again.observation_space == made.observation_space
        write_minari(data, f"{name}-v1")
        assert read_minari(f"{name}-v1").settings == data.settings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (EnvSettings(entry_point="os:system", kwargs={"command": "touch /tmp/never"}), "'os:system' is not a class of"),
        (EnvSettings(entry_point="no.such:Thing"), "'no.such:Thing' cannot be imported"),
        (EnvSettings(wrappers=(WrapperSettings("X", "subprocess:Popen", {"args": "ls"}),)), "is not a class of"),
        (EnvSettings(wrappers=(WrapperSettings("X", "gymnasium.wrappers:ClipReward", None),)), "X does not tell its"),
    ],
)
def test_nothing_but_environments_and_wrappers_is_made(settings: EnvSettings, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(ID, settings)


@pytest.mark.parametrize("fields", [{"max_steps": 0}, {"kwargs": {"x": np.zeros(2)}}, {"kwargs": {"x": float("nan")}}])
def test_settings_check_themselves(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        EnvSettings(**fields)


def test_limits_come_from_the_settings_else_from_the_registered_environment() -> None:
    assert registered_limit(ID, AS_REGISTERED) == 8
    assert registered_limit(ID, EnvSettings(max_steps=5)) == 5
    assert registered_limit(ID, EnvSettings(max_steps=-1)) == registered_limit("Nowhere-v0", AS_REGISTERED) == 0
    assert step_limit(make(ID, EnvSettings(max_steps=-1))) is None
    assert step_limit(make(ID, EnvSettings(max_steps=-1), longest=4)) == 4
    assert step_limit(make(ID, EnvSettings(max_steps=5), max_steps=3)) == 3


def test_data_without_settings_is_made_as_registered() -> None:
    assert trajectories([3]).settings == AS_REGISTERED
