"""What an evaluation says of an agent and of the data it learnt from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest

from core.training.checkpoints import Checkpoints
from decision.acting.policy import ModelPolicy
from decision.config import OnlineConfig, TrainConfig
from decision.data.store import Trajectories
from decision.environments.make import episode_seed
from decision.models.config import DecisionConfig
from decision.presets import modern_core
from decision.tasks.imitation import EVALUATED
from decision.tasks.loop import train
from decision.trained import load
from tests.decision import examples
from tests.processes import Command

SHAPE = DecisionConfig(context=5, core=modern_core(16, 1, 2))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, cartpole: Trajectories) -> Path:
    """Folders of short runs on CartPole: `conditioned` on returns, `cloned`, and `elsewhere`, from data that does
    not say of which environment it is."""
    place = tmp_path_factory.mktemp("runs")
    cartpole.save(place / "random.npz")
    settings = {"data": str(place / "random.npz"), "batch_size": 8, "eval_episodes": 2, "precision": "fp32"}
    conditioned = TrainConfig(out=place / "conditioned", steps=2, eval_every=1, device="cpu", model=SHAPE, **settings)
    train(conditioned)
    train(replace(conditioned, out=place / "cloned", model=replace(SHAPE, returns="none")))
    replace(cartpole, environment="").save(place / "unnamed.npz")
    train(replace(conditioned, out=place / "elsewhere", data=str(place / "unnamed.npz"), env="CartPole-v1"))
    return place


def test_the_command_says_what_the_agent_reaches(command: Command, runs: Path) -> None:
    words = ("evaluate", runs / "conditioned", "--episodes", 3, "--target-return", 10, 40, "--json")
    code, out, err = command(*words)
    assert (code, err) == (0, [])
    *lines, last = out.splitlines()
    measured = json.loads(last)
    assert (measured["environment"], measured["episodes"]) == ("CartPole-v1", 3)
    assert measured["step"] == int(Checkpoints(runs / "conditioned").find("best").name.removeprefix("step-"))
    episodes = json.loads((runs / "conditioned" / "evaluation" / "episodes.json").read_text())
    assert [len(episodes[part]["returns"]) for part in ("target_10", "target_40")] == [3, 3]
    for part in episodes:  # CartPole: 1 a step
        assert measured[f"{part}/length_mean"] == measured[f"{part}/return_mean"] == np.mean(episodes[part]["returns"])
    assert measured["data/episodes"] == load(runs / "conditioned").summary.episodes
    assert any(line.startswith("the data: ") for line in lines)
    assert command(*words)[1].splitlines()[:4] == lines[:4]


def test_targets_are_those_of_the_data_by_default(command: Command, runs: Path) -> None:
    measured = json.loads(command("evaluate", runs / "conditioned", "--episodes", 1, "--json").out.splitlines()[-1])
    names = [value for key, value in measured.items() if key.endswith("/name")]
    assert names == ["median", "90 %", "max", "max + 20 %"]
    cloned = json.loads(command("evaluate", runs / "cloned", "--episodes", 1, "--json").out.splitlines()[-1])
    assert [key for key in cloned if key.endswith("/return_mean")] == ["no_target/return_mean"]


@pytest.mark.parametrize("name", ["evaluate", "rollout"])
def test_the_environment_of_a_run_is_known_to_the_commands(command: Command, runs: Path, name: str) -> None:
    code, out, err = command(name, runs / "elsewhere", "--episodes", 1, "--json")
    assert (code, err) == (0, [])
    measured = json.loads(out.splitlines()[-1])
    assert (measured["environment"], measured["temperature"]) == ("CartPole-v1", 0)


class Endless(gymnasium.Env[Any, Any]):
    """Goes on for ever."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(-9, 9, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(3, np.float32), 1.0, False, False, {}

    def render(self) -> Any:
        return np.zeros((8, 8, 3), np.uint8)


if "Endless-v0" not in gymnasium.registry:
    gymnasium.register("Endless-v0", Endless)


def test_without_a_limit_episodes_end_where_the_table_of_timesteps_does(command: Command, tmp_path: Path) -> None:
    """In the evaluations of a run, in rounds of its own, in both commands, and in a film; each says so."""
    data = examples.trajectories([5, 3], environment="tests.decision.test_evaluate:Endless-v0")
    data.save(tmp_path / "data.npz")
    settings = {"data": str(tmp_path / "data.npz"), "batch_size": 2, "precision": "fp32", "online": OnlineConfig(1, 2)}
    figures = train(TrainConfig(out=tmp_path / "run", steps=1, device="cpu", model=SHAPE, eval_episodes=2, **settings))
    assert (figures["val/length"], figures["val/return"]) == (5, 5)
    assert Trajectories.load(tmp_path / "run" / "online" / "round-00000.npz").lengths().tolist() == [5, 5]
    for name, more in (("evaluate", ()), ("rollout", ("--video", tmp_path / "films"))):
        code, out, [notice] = command(name, tmp_path / "run", "--episodes", 2, "--json", *more)
        assert (code, "has no limit of steps: episodes are cut off after 5" in notice) == (0, True)
        measured = json.loads(out.splitlines()[-1])
        [(length, truncated), *_] = [
            (measured[key], measured[key.replace("length_mean", "truncated")])
            for key in measured
            if key.endswith("length_mean")
        ]
        assert (length, truncated) == (5, 1)
    words = ("--episodes", 1, "--max-steps", 6)
    code, _, [line] = command("rollout", tmp_path / "run", *words)
    assert (code, "last up to 6 steps, the model's table of timesteps ends at 5" in line) == (2, True)


def test_other_episodes_than_those_that_chose_the_checkpoint() -> None:
    chosen = {episode_seed(EVALUATED, number) for number in range(100)}
    assert not chosen & {episode_seed(seed, number) for seed in range(20) for number in range(100)}


BAD = {
    "no folder": (("--episodes", 3), "name the run folder first"),
    "no run": (("void",), "void is not a run folder"),
    "no such checkpoint": (("{runs}/conditioned", "--checkpoint", 77), "checkpoint = '77' is not one of: last, best"),
    "another environment": (
        ("{runs}/conditioned", "--env", "Pendulum-v1"),
        "observations of Pendulum-v1 are box (3,)",
    ),
    "a target without effect": (("{runs}/cloned", "--target-return", 3), "--target-return has no effect"),
    "a target that is not finite": (
        ("{runs}/conditioned", "--target-return", "inf"),
        "target_return = inf",
    ),
    "a target that is no number": (("{runs}/conditioned", "--target-return", "high"), "high"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(command: Command, runs: Path, case: str) -> None:
    words, complaint = BAD[case]
    code, _, err = command("evaluate", *(str(word).format(runs=runs) for word in words))
    [line] = err
    assert (code, complaint in line) == (2, True), line


def test_a_rollout_and_a_collection_take_a_run_folder(command: Command, runs: Path, tmp_path: Path) -> None:
    """The same agent in all commands: what is recorded is what its model does from the same beginnings."""
    done = command("rollout", runs / "conditioned", "--target-return", 30, "--episodes", 2, "--json")
    assert done.code == 0, done.err
    words = (
        "--env",
        "CartPole-v1",
        "--policy",
        runs / "conditioned",
        "--target-return",
        30,
        "--steps",
        60,
        "--envs",
        2,
    )
    assert command("collect", *words, "--out", tmp_path / "own.npz").code == 0
    data, agent = Trajectories.load(tmp_path / "own.npz"), load(runs / "conditioned")
    assert data.provenance["target_return"] == 30
    policy = ModelPolicy(agent.model, agent.summary.normaliser, [30.0])
    first, before = data[0], None
    for step, taken in enumerate(first.actions):
        assert policy.act(first.observations[step][None], before)[0] == taken
        before = first.rewards[step][None]
    words = ("--env", "Pendulum-v1", "--policy", runs / "conditioned", "--out", tmp_path / "other.npz")
    code, _, [line] = command("collect", *words)
    assert (code, "observations of Pendulum-v1 are box (3,)" in line) == (2, True)
