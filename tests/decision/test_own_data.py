"""Data of one's own: a run without a preset, its help, environments of which there may be only one, and old names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest

from core.training.checkpoints import read_config
from decision.collecting.config import CollectConfig
from decision.collecting.record import collect
from decision.config import TrainConfig
from decision.data.sources import load_data
from decision.data.store import Trajectories
from decision.environments.spaces import describe
from decision.evaluate import evaluate_run
from decision.finetune import parse_command as parse_finetuning
from decision.presets import fitted
from decision.tasks.loop import prepare, train
from decision.train import parse_command
from decision.trained import load
from tests.decision.corridor import Corridor
from tests.decision.examples import trajectories

QUICK = ("--steps", "2", "--precision", "fp32", "--device", "cpu")
MODULE = "tests.decision.test_own_data"


class Single(Corridor):
    """A simulator of which there may be one at a time."""

    alive: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        if Single.alive:
            raise RuntimeError("the simulator runs already")
        Single.alive += 1

    def close(self) -> None:
        Single.alive -= 1


class Pictures(Corridor):
    """Shows a grey picture beside two numbers, and takes one of a few short whole numbers."""

    observation_space = gymnasium.spaces.Dict(
        eye=gymnasium.spaces.Box(0, 255, (36, 40), np.uint8), place=gymnasium.spaces.Box(-100, 100, (2,), np.float64)
    )

    def _seen(self) -> Any:
        return {"eye": np.full((36, 40), 128 + 10 * self.place, np.uint8), "place": super()._seen()}


for name, kind in (("Single", Single), ("Pictures", Pictures)):
    if f"{name}-v0" not in gymnasium.registry:
        gymnasium.register(f"{name}-v0", kind, max_episode_steps=8)


@pytest.fixture
def arrays(cartpole: Trajectories, tmp_path: Path) -> Path:
    """Steps of CartPole as plain arrays."""
    flat = {name: getattr(cartpole, name) for name in ("observations", "actions", "rewards", "terminated", "truncated")}
    np.savez(tmp_path / "mine.npz", **flat)
    return tmp_path / "mine.npz"


def test_a_run_without_a_preset_is_fitted_to_its_data(
    arrays: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--data",
        str(arrays),
        "--env",
        "CartPole-v1",
        *QUICK,
        "--eval-episodes",
        "1",
        "--out",
        str(tmp_path / "r"),
    ]
    config = parse_command(words)
    assert "notice: no preset: 2 blocks of 64 channels" in capfd.readouterr().err
    assert (config.eval_episodes, config.steps, config.model.context) == (1, 2, 10)
    assert "val/return" in train(config)
    run = load(tmp_path / "r")
    assert run.config.model.action_space.counts == (2,)
    assert run.config.model.action_space.extent == "declared"
    assert run.config.model.max_timestep == 500
    assert run.summary.returns[-1] == load_data(arrays).returns().max()


def test_a_run_on_data_of_an_unknown_environment_is_not_evaluated(
    arrays: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = parse_command([f"--data={arrays}", *QUICK, "--out", str(tmp_path / "r")])
    assert "its environment is unknown, name one with --env" in capfd.readouterr().err
    assert train(config) == {}
    with pytest.raises(ValueError, match="environment of the data is unknown: name one with --env"):
        evaluate_run([str(tmp_path / "r")])
    evaluate_run([str(tmp_path / "r"), "--env", "CartPole-v1", "--env-args", "max_episode_steps=50", "--episodes", "1"])
    assert "CartPole-v1" in capfd.readouterr().out


def test_help_without_a_preset_is_a_page(arrays: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_command(["--data", str(arrays), "--help"])
    page = capfd.readouterr().out
    assert end.value.code == 0
    assert len(page.splitlines()) < 80
    for shown in ("--env-args", "--model.context INT", "(default: 10)"):
        assert shown in page
    assert "--optimizer.kind" not in page
    with pytest.raises(ValueError, match="unknown option --model.contxt; did you mean --model.context"):
        parse_command(["--data", str(arrays), "--model.contxt", "3"])


def test_more_data_has_a_larger_model_and_a_longer_training() -> None:
    small, large = (fitted(trajectories([length] * 20), "x/mine.npz") for length in (7, 4000))
    assert (small.model.context, large.model.context) == (7, 20)
    assert small.model.core.dim < large.model.core.dim
    assert (small.steps, large.steps) == (500, 1500)
    assert small.out == Path("runs/mine")


def test_a_relative_name_of_data_is_found_from_elsewhere(
    arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(arrays.parent)
    words = ["--data", "mine.npz", *QUICK, "--out", str(tmp_path / "run")]
    train(parse_command(words))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = parse_command(["--out", str(tmp_path / "run"), "--resume", "--steps", "3"])
    assert config.data == str(arrays)
    train(config)
    moved = arrays.rename(tmp_path / "elsewhere" / "moved.npz")
    train(parse_command(["--out", str(tmp_path / "run"), "--resume", "--steps", "4", "--data", str(moved)]))
    assert load(tmp_path / "run", "last").step == 4
    trajectories([5], observed=load_data(moved).observation_space).save(moved)
    with pytest.raises(ValueError, match=r"was trained on other trajectories: .*moved\.npz has changed since"):
        train(parse_command(["--out", str(tmp_path / "run"), "--resume", "--steps", "5", "--data", str(moved)]))


def test_a_run_that_called_its_environment_otherwise_is_read(arrays: Path, tmp_path: Path) -> None:
    config = parse_command(["--data", str(arrays), *QUICK, "--out", str(tmp_path / "run")])
    train(config)
    path = tmp_path / "run" / "config.json"
    record = json.loads(path.read_text())
    del record["config"]["env"], record["config"]["env_args"], record["config"]["envs"]
    record["config"]["environment"] = "CartPole-v1"
    path.write_text(json.dumps(record))
    assert read_config(tmp_path / "run", TrainConfig).env == "CartPole-v1"
    assert parse_finetuning([str(tmp_path / "run")]).env == "CartPole-v1"


def test_one_simulator_at_a_time_is_enough(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = trajectories([5, 7], environment=f"{MODULE}:Single-v0", observed=fitting(Single))
    data.save(tmp_path / "data.npz")
    words = ["--data", str(tmp_path / "data.npz"), *QUICK, "--eval-episodes", "2", "--eval-targets", "0", "1"]
    with pytest.raises(ValueError, match=r"Single-v0 cannot be made: the simulator runs already"):
        train(parse_command([*words, "--out", str(tmp_path / "many")]))
    Single.alive = 0
    train(parse_command([*words, "--envs", "1", "--out", str(tmp_path / "one")]))
    evaluate_run([str(tmp_path / "one"), "--episodes", "2", "--envs", "1"])
    assert Single.alive == 0


def test_a_table_covers_the_limit_of_an_environment_that_a_module_registers(tmp_path: Path) -> None:
    """Even where nothing is evaluated while training."""
    trajectories([5, 3], environment=f"{MODULE}:Single-v0", observed=fitting(Single)).save(tmp_path / "data.npz")
    base = TrainConfig(steps=1, data=str(tmp_path / "data.npz"), eval_episodes=0, out=tmp_path / "run")
    assert prepare(base)[2].model.max_timestep == 8
    assert prepare(replace(base, env="CartPole-v1"))[2].model.max_timestep == 500


def test_pictures_in_a_dictionary_are_trained_on_and_acted_with(tmp_path: Path) -> None:
    collect(CollectConfig(env=f"{MODULE}:Pictures-v0", steps=60, envs=2, out=str(tmp_path / "data.npz")))
    words = ["--data", str(tmp_path / "data.npz"), *QUICK, "--eval-episodes", "1", "--out", str(tmp_path / "run")]
    assert "val/return" in train(parse_command(words))
    assert load(tmp_path / "run").config.model.observation_space.pictures == ((0, 36, 40),)


def fitting(kind: type[gymnasium.Env[Any, Any]]) -> Any:
    """What an environment shows."""
    return describe(kind.observation_space)
