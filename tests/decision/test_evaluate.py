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
from decision.acting.episodes import Episodes, Outcome, Rollouts
from decision.acting.policy import Actors
from decision.config import OnlineConfig, TrainConfig
from decision.data.load import Summary, default_targets
from decision.data.store import Trajectories
from decision.environments.make import episode_seed
from decision.evaluate import compared, sentences, share_below
from decision.models.decision_transformer import DecisionConfig
from decision.presets import modern_core
from decision.rollout import figures
from decision.tasks.imitation import mean_figures
from decision.train import EVALUATED, train
from decision.trained import load
from tests.decision import examples
from tests.processes import Command

SHAPE = DecisionConfig(context=5, core=modern_core(16, 1, 2))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, cartpole: Trajectories) -> Path:
    """Folders of short runs on CartPole: `told` the return to reach, `cloned`, and `elsewhere`, from data that does
    not say of which environment it is."""
    place = tmp_path_factory.mktemp("runs")
    cartpole.save(place / "random.npz")
    settings = {"data": str(place / "random.npz"), "batch_size": 8, "eval_episodes": 2, "precision": "fp32"}
    told = TrainConfig(out=place / "told", steps=2, eval_every=1, device="cpu", model=SHAPE, **settings)
    train(told)
    train(replace(told, out=place / "cloned", model=replace(SHAPE, returns="none")))
    replace(cartpole, environment="").save(place / "untold.npz")
    train(replace(told, out=place / "elsewhere", data=str(place / "untold.npz"), environment="CartPole-v1"))
    return place


def outcome(target: float | None, *returns: float) -> Outcome:
    values = np.array(returns, np.float64)
    return Outcome(target, Episodes(values, np.arange(1, 1 + len(values)), values > 2))


def test_what_is_logged_is_of_the_target_that_leads_furthest() -> None:
    found = Rollouts((outcome(1.0, 1, 2, 3), outcome(9.5, 4, 8, 6), outcome(20.0, 1, 1, 1)), seconds=2.0)
    told = mean_figures(found, reference=(1.0, 11.0))
    correlation = told.pop("rank_correlation")
    assert correlation == found.rank_correlation()
    assert told == {"return": 6, "length": 2, "score": 50, "return_1": 2, "return_9.5": 6, "return_20": 1}
    assert mean_figures(Rollouts((outcome(None, 1, 3),), seconds=1.0), None) == {"return": 2, "length": 1.5}


def test_a_share_of_the_data_is_told_by_its_percentiles() -> None:
    percentiles = np.percentile(np.arange(1001.0), np.arange(101)).tolist()
    assert [share_below(value, percentiles) for value in (-5, 0, 5, 255, 1000, 1001)] == [0, 0, 0, 25, 99, 100]
    assert share_below(500.0, [10.0] * 81 + [500.0] * 20) == 80
    assert share_below(3.0, [3.0] * 101) == 0


def test_a_few_episodes_are_summed_up_by_returns_that_they_have() -> None:
    data = examples.trajectories([4] * 6)
    returns, kept = np.sort(data.returns()), Summary.of(data).returns
    assert {*kept} == {*returns}
    assert {*default_targets(np.array(kept)).values()} <= {*returns, returns[-1] + 0.2 * abs(returns[-1])}
    assert [share_below(value, kept) for value in (returns[2], returns[2] + 1e-6, returns[-1])] == [33, 50, 83]


def test_the_data_stands_beside_what_was_reached() -> None:
    data = examples.trajectories([4] * 50, reference=(-1.0, 9.0))
    found = Rollouts((outcome(1.0, 1, 2, 3), outcome(90.0, 40, 80, 60)), seconds=2.0)
    told = compared(figures(found, {}, data.reference), Summary.of(data))
    assert [row["above"] for row in told["targets"]][1] == 100
    assert told["data"]["episodes"] == 50
    assert told["data"]["returns"]["max"] == data.returns().max()
    assert told["data"]["scores"]["max"] == pytest.approx(10 * (data.returns().max() + 1))
    said = sentences(told)
    assert said[0].startswith(f"the data: 50 episodes; median {np.sort(data.returns())[24]:.4g}, ")
    assert said[1] == "asked for 90, it returns 60 on average, more than 100 % of them"


def test_the_command_says_what_the_agent_reaches(command: Command, runs: Path) -> None:
    words = ("evaluate", runs / "told", "--episodes", 3, "--targets", 10, 40, "--json")
    code, out, err = command(*words)
    assert (code, err) == (0, [])
    *lines, last = out.splitlines()
    told = json.loads(last)
    assert (told["environment"], told["episodes"]) == ("CartPole-v1", 3)
    assert told["step"] == int(Checkpoints(runs / "told").find("best").name.removeprefix("step-"))
    assert [row["target"] for row in told["targets"]] == [10, 40]
    assert [len(row["returns"]) for row in told["targets"]] == [3, 3]
    assert all(row["length"] == row["return"]["mean"] for row in told["targets"])  # CartPole: 1 a step
    assert told["data"]["episodes"] == load(runs / "told").summary.episodes
    assert any(line.startswith("the data: ") for line in lines)
    assert (
        command("evaluate", runs / "told", "--episodes", 3, "--targets", 10, 40, "--json")[1].splitlines()[:4]
        == lines[:4]
    )


def test_targets_are_those_of_the_data_by_default(command: Command, runs: Path) -> None:
    told = json.loads(command("evaluate", runs / "told", "--episodes", 1, "--json").out.splitlines()[-1])
    assert [row["name"] for row in told["targets"]] == ["median", "90 %", "max", "max + 20 %"]
    cloned = json.loads(command("evaluate", runs / "cloned", "--episodes", 1, "--json").out.splitlines()[-1])
    assert [row["target"] for row in cloned["targets"]] == [None]


@pytest.mark.parametrize("name", ["evaluate", "rollout"])
def test_the_environment_of_a_run_is_known_to_the_commands(command: Command, runs: Path, name: str) -> None:
    code, out, err = command(name, runs / "elsewhere", "--episodes", 1, "--json")
    assert (code, err) == (0, [])
    told = json.loads(out.splitlines()[-1])
    assert (told["environment"], told["temperature"]) == ("CartPole-v1", 0)


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
    """In the evaluations of a run, in rounds of its own, in both commands, and in a film."""
    data = examples.trajectories([5, 3], environment="tests.decision.test_evaluate:Endless-v0")
    data.save(tmp_path / "data.npz")
    settings = {"data": str(tmp_path / "data.npz"), "batch_size": 2, "precision": "fp32", "online": OnlineConfig(1, 2)}
    figures = train(TrainConfig(out=tmp_path / "run", steps=1, device="cpu", model=SHAPE, eval_episodes=2, **settings))
    assert (figures["val/length"], figures["val/return"]) == (5, 5)
    assert Trajectories.load(tmp_path / "run" / "online" / "round-00000.npz").lengths().tolist() == [5, 5]
    for name, more in (("evaluate", ()), ("rollout", ("--video", tmp_path / "films"))):
        code, out, err = command(name, tmp_path / "run", "--episodes", 2, "--json", *more)
        assert (code, err) == (0, [])
        [row, *_] = json.loads(out.splitlines()[-1])["targets"]
        assert (row["length"], row["cut_off"]) == (5, 1)
    words = ("--episodes", 1, "--max-steps", 6)
    code, _, [line] = command("rollout", tmp_path / "run", *words)
    assert (code, "last up to 6 steps, the model's table of timesteps ends at 5" in line) == (2, True)


def test_other_episodes_than_those_that_chose_the_checkpoint() -> None:
    chosen = {episode_seed(EVALUATED, number) for number in range(100)}
    assert not chosen & {episode_seed(seed, number) for seed in range(20) for number in range(100)}


BAD = {
    "no folder": (("--episodes", 3), "name the run folder first"),
    "no run": (("void",), "void is not a run folder"),
    "no such checkpoint": (("{runs}/told", "--checkpoint", 77), "checkpoint = '77' is not one of: last, best"),
    "another environment": (
        ("{runs}/told", "--environment", "Pendulum-v1"),
        "observations of Pendulum-v1 are box (3,)",
    ),
    "a target that nobody is told": (("{runs}/cloned", "--targets", 3), "--targets has no effect"),
    "a target that is not finite": (("{runs}/told", "--targets", "inf"), "targets = inf must be a finite number"),
    "a target that is no number": (("{runs}/told", "--targets", "high"), "high"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(command: Command, runs: Path, case: str) -> None:
    words, complaint = BAD[case]
    code, _, err = command("evaluate", *(str(word).format(runs=runs) for word in words))
    [line] = err
    assert (code, complaint in line) == (2, True), line


def test_a_rollout_and_a_collection_take_a_run_folder(command: Command, runs: Path, tmp_path: Path) -> None:
    """The same agent in all commands: what is recorded is what its model does from the same beginnings."""
    told = command("rollout", runs / "told", "--target-return", 30, "--episodes", 2, "--json")
    assert told.code == 0, told.err
    words = ("--env", "CartPole-v1", "--policy", runs / "told", "--target-return", 30, "--steps", 60, "--envs", 2)
    assert command("collect", *words, "--out", tmp_path / "own.npz").code == 0
    data, agent = Trajectories.load(tmp_path / "own.npz"), load(runs / "told")
    assert data.provenance["target_return"] == 30
    actors = Actors(agent.model, agent.summary.normaliser, [30.0])
    first, before = data[0], None
    for step, taken in enumerate(first.actions):
        assert actors.act(first.observations[step][None], before)[0] == taken
        before = first.rewards[step][None]
    words = ("--env", "Pendulum-v1", "--policy", runs / "told", "--out", tmp_path / "other.npz")
    code, _, [line] = command("collect", *words)
    assert (code, "observations of Pendulum-v1 are box (3,)" in line) == (2, True)
