"""Learning from what the agent does itself: from which episodes, with which returns, and over interruptions."""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.training.checkpoints import Checkpoints
from decision.collecting.config import CollectConfig
from decision.collecting.record import collect
from decision.config import TrainConfig
from decision.data.store import Trajectories
from decision.finetune import parse_command
from decision.models.config import DecisionConfig
from decision.presets import modern_core
from decision.tasks.loop import train
from decision.trained import load
from tests.processes import Commands, assert_close, assert_same_run, lines

SHAPE = DecisionConfig(context=5, core=modern_core(16, 1, 2))
ROUNDS = (
    "--online.every",
    3,
    "--online.episodes",
    3,
    "--eval-every",
    3,
    "--save-every",
    2,
    "--log-every",
    1,
    "--ema",
    0.5,
)


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setenv("TRIPTYCH_DATA", str(place))


@pytest.fixture(scope="module")
def begun(place: Path, data: Path) -> Path:
    """A short run on CartPole to begin with."""
    settings = {"data": str(data), "batch_size": 8, "eval_episodes": 2, "precision": "fp32"}
    train(TrainConfig(out=place / "begun", steps=3, device="cpu", eval_targets=(20.0, 60.0), model=SHAPE, **settings))
    return place / "begun"


def tuned(commands: Commands, *arguments: object) -> None:
    life = commands.run("decision.finetune", *arguments)
    assert life.process.exitcode == 0, life.err


@pytest.fixture(scope="module")
def whole(commands: Commands, place: Path, begun: Path) -> Path:
    """Four rounds that nothing interrupts."""
    tuned(commands, begun, "--out", place / "whole", "--rounds", 4, *ROUNDS)
    return place / "whole"


@pytest.mark.slow
def test_an_agent_learns_more_than_its_data_knows(commands: Commands, place: Path) -> None:
    """CartPole from a random policy: by asking for more each time, it comes to outlast what it was shown."""
    data = collect(CollectConfig(env="CartPole-v1", steps=5000, out=str(place / "more.npz")))
    words = ("cartpole", "--data", place / "more.npz", "--steps", 200, "--eval-episodes", 0)
    life = commands.begin("decision.train", *words, "--out", place / "random")
    assert life.end(120) == 0, life.err
    words = (place / "random", "--out", place / "better", "--rounds", 12, "--eval-episodes", 0)
    life = commands.begin("decision.finetune", *words)
    assert life.end(180) == 0, life.err
    first, *_ = returns = [episodes.returns() for episodes in rounds_of(place / "better")]
    last = np.concatenate(returns[-4:])
    assert first.mean() > 1.5 * data.returns().mean()  # 4.0 +- 0.5 times over seeds 0-2
    assert (last > np.percentile(data.returns(), 95)).mean() > 0.6  # 0.97 +- 0.05 over seeds 0-2
    assert last.max() > data.returns().max()  # 0.85 +- 0.20 of them are above it


def test_rounds_are_logged_without_evaluations(begun: Path, tmp_path: Path) -> None:
    words = (begun, "--out", tmp_path / "untried", "--rounds", 2, *ROUNDS, "--eval-episodes", 0)
    assert train(parse_command([*map(str, words)])) == {}
    logged = [line for line in lines(tmp_path / "untried") if "online/return" in line]
    assert [line["step"] for line in logged] == [3, 6]
    found = rounds_of(tmp_path / "untried")
    assert [line["online/return"] for line in logged] == [episodes.returns().mean() for episodes in found]


@pytest.mark.parametrize("name", [".", "../begun"])
def test_a_run_is_found_from_inside(begun: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begun)
    config = parse_command([name])
    assert (config.out, Path(config.init_from)) == (begun.with_name("begun-online"), begun)


def rounds_of(run: Path) -> list[Trajectories]:
    return [Trajectories.load(path) for path in sorted((run / "online").glob("round-*.npz"))]


def test_every_round_is_kept_and_counted(whole: Path, begun: Path, cartpole: Trajectories) -> None:
    was, config = load(begun).config.optimizer, load(whole).config
    assert (config.optimizer.lr, config.optimizer.muon_lr) == (was.lr / 3, was.muon_lr / 3)
    found = rounds_of(whole)
    assert [len(episodes) for episodes in found] == [3] * 4
    assert [episodes.provenance["round"] for episodes in found] == [0, 1, 2, 3]
    assert len({seed for episodes in found for seed in episodes.provenance["seeds"]}) == 12
    assert found[0].provenance["target"] == pytest.approx(1.2 * cartpole.returns().max())
    logged = [line for line in lines(whole) if "online/return" in line]
    assert [line["step"] for line in logged] == [3, 6, 9, 12]
    assert [line["online/return"] for line in logged] == [episodes.returns().mean() for episodes in found]
    assert [line["online/steps"] for line in logged] == np.cumsum([episodes.steps for episodes in found]).tolist()
    assert load(whole).summary == load(begun).summary  # the statistics of the beginning stay


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_anywhere_it_goes_on_with_the_same_episodes(
    commands: Commands, place: Path, begun: Path, whole: Path, number: signal.Signals
) -> None:
    cut = place / f"cut by {number.name}"
    life = commands.begin("decision.finetune", begun, "--out", cut, "--rounds", 4, *ROUNDS)
    life.wait_for(lambda: max(Checkpoints(cut).steps(), default=0) >= 4)
    life.signal(number)
    assert life.end() in {-signal.SIGKILL if number == signal.SIGKILL else 130, 0}
    tuned(commands, f"--out={cut}", "--resume")
    assert_same_run(whole, cut)
    assert [path.read_bytes() for path in sorted((cut / "online").iterdir())] == [
        path.read_bytes() for path in sorted((whole / "online").iterdir())
    ]


def test_more_rounds_may_follow(commands: Commands, place: Path, whole: Path) -> None:
    shutil.copytree(whole, place / "more")
    tuned(commands, "--out", place / "more", "--resume", "--rounds", 5)
    assert len(rounds_of(place / "more")) == 5
    assert lines(place / "more")[-1]["step"] == 15


def test_two_processes_learn_from_the_same_episodes(commands: Commands, place: Path, begun: Path, whole: Path) -> None:
    words = (begun, "--out", place / "two", "--rounds", 4, *ROUNDS)
    assert [life.end() for life in commands.pair("decision.finetune", *words)] == [0, 0]
    assert_close(place / "two", whole, 1e-5)


def test_an_earlier_round_that_is_missing_is_named(commands: Commands, place: Path, whole: Path) -> None:
    copy = shutil.copytree(whole, place / "incomplete")
    (copy / "online" / "round-00001.npz").unlink()
    life = commands.run("decision.finetune", "--out", copy, "--resume", "--rounds", 5)
    assert life.process.exitcode == 2
    assert "round-00001.npz is missing, from which the run has learnt" in life.err[-1]


BAD = {
    "no folder": (("--rounds", 3), "name a run folder first"),
    "no run": (("void",), "void is not a run folder"),
    "no run to go on with": (
        ("--resume",),
        "--out DIR2 --resume to resume",
    ),
    "a budget of steps": (("{begun}", "--steps", 5), "--steps has no effect: the budget is rounds times online.every"),
    "a budget of time": (("{begun}", "--minutes", 5), "has no effect: the budget is rounds times online.every"),
    "no rounds": (("{begun}", "--rounds", 0), "rounds = 0 must be above 0"),
    "nothing to collect": (("{begun}", "--online.every", 0), "every = 0 must be above 0"),
    "a run of another kind": (("--out", "{begun}", "--resume"), "begun is a run of decision.train"),
    "a target that is not finite": (("{begun}", "--online.target", "nan"), "target = nan must be a finite number"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_refused_in_one_sentence(begun: Path, case: str) -> None:
    words, complaint = BAD[case]
    with pytest.raises(ValueError, match=r".") as refused:
        parse_command([str(word).format(begun=begun) for word in words])
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ({"returns": "none"}, "online.every = 50 needs a model with model.returns = 'token'"),
        ({}, "online.every = 50 needs a head that draws actions: train with --model.head gaussian"),
    ],
)
def test_an_agent_that_cannot_explore_is_refused(tmp_path: Path, shape: dict[str, Any], complaint: str) -> None:
    collect(CollectConfig(env="Pendulum-v1", steps=200, envs=1, out=str(tmp_path / "swings.npz")))
    settings = {"data": str(tmp_path / "swings.npz"), "eval_episodes": 0, "batch_size": 4, "precision": "fp32"}
    train(TrainConfig(out=tmp_path / "begun", steps=1, device="cpu", model=replace(SHAPE, **shape), **settings))
    with pytest.raises(ValueError, match=complaint):
        train(parse_command([str(tmp_path / "begun"), "--out", str(tmp_path / "never")]))
    assert not (tmp_path / "never").exists()
