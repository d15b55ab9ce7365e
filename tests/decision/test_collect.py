"""Collecting: what is recorded is what happened, interruptions lose nothing, levels are reached."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from core.cli.errors import Interrupted, RunFailure
from core.cli.signals import StopRequest
from decision.collecting import agents, record, recording
from decision.collecting.agents import read_agent
from decision.collecting.config import CollectConfig
from decision.collecting.record import collect
from decision.collecting.recorder import Recorder
from decision.collecting.reference import first_seed
from decision.collecting.teacher import Teacher
from decision.config import TrainConfig
from decision.data.load import load_data
from decision.data.store import Trajectories
from decision.models.config import DecisionConfig
from decision.presets import modern_core
from decision.tasks.loop import train
from tests.decision.corridor import ID, LIMIT
from tests.decision.examples import same, trajectories
from tests.processes import Command


def of(name: str) -> str:
    """The id of a corridor of that name."""
    return ID.replace("Corridor-v0", f"{name}-v0")


OPEN, SLOPE, BROKEN = map(of, ("Open", "Slope", "Broken"))


@pytest.fixture
def config(tmp_path: Path) -> CollectConfig:
    return CollectConfig(env=ID, steps=200, seed=3, out=str(tmp_path / "data.npz"))


# ---------------------------------------------------------------------------------------------- what is recorded


def test_episodes_can_be_lived_again_from_their_seeds(config: CollectConfig) -> None:
    """Every observation, reward and end follows from the recorded seed and actions; none is normalised or rounded."""
    data = collect(config)
    environment = gymnasium.make(ID)
    assert data.provenance["first_seed"] == first_seed(3)
    for number, episode in enumerate(data):
        seen, _ = environment.reset(seed=data.provenance["first_seed"] + number)
        for step, action in enumerate(episode.actions):
            assert np.array_equal(episode.observations[step], seen.astype(np.float32))
            seen, reward, terminated, truncated, _ = environment.step(action)
            assert episode.rewards[step] == np.float32(reward)
        assert np.array_equal(episode.final_observation, seen.astype(np.float32))
        assert (episode.terminated, episode.truncated) == (terminated, truncated)


def test_limits_of_time_are_told_from_ends(config: CollectConfig) -> None:
    data = collect(config)
    arrived = np.array([episode.final_observation[0] == 3 for episode in data])
    lasts = data.offsets[1:] - 1
    assert 0 < arrived.sum() < len(data)
    assert data.terminated[lasts].tolist() == arrived.tolist()
    assert data.truncated[lasts].tolist() == (data.lengths() == LIMIT).tolist()  # at the last step it may be both


def test_whole_episodes_hold_the_steps_asked_for(config: CollectConfig) -> None:
    data = collect(config)
    assert data.steps - data.lengths()[-1] < 200 <= data.steps
    assert not Path(f"{config.out}.part").exists()


@pytest.mark.parametrize("envs", [1, 3])
def test_what_is_recorded_does_not_depend_on_how_many_go_at_once(config: CollectConfig, envs: int) -> None:
    one = collect(config)
    other = collect(replace(config, envs=envs, out=f"{config.out}.other"))
    assert same(one, other)


def test_seeds_make_other_episodes_and_actions_are_not_those_of_the_environment(config: CollectConfig) -> None:
    one, other = (collect(replace(config, seed=seed, out=f"{config.out}.{seed}")) for seed in (0, 1))
    assert not np.intersect1d(one.observations[:, 1], other.observations[:, 1]).size
    starts = one.offsets[:-1]
    first_action, first_noise = one.actions[starts], one.observations[starts, 1]
    assert 0.2 < first_action.mean() < 0.8
    assert abs(np.corrcoef(first_action, first_noise)[0, 1]) < 0.5


def test_a_function_of_ones_own_acts(config: CollectConfig) -> None:
    data = collect(replace(config, policy="tests.decision.corridor:ahead"))
    assert data.terminated[data.offsets[1:] - 1].all()
    assert set(data.lengths().tolist()) == {3}
    assert data.provenance["policy"] == "tests.decision.corridor:ahead"


def test_actions_of_a_function_are_cut_off_at_their_bounds(config: CollectConfig) -> None:
    data = collect(replace(config, env=SLOPE, policy="tests.decision.corridor:far"))
    assert np.unique(data.actions, axis=0).tolist() == [[1, -1]]
    assert data.actions.dtype == np.float32


def test_random_actions_fill_a_continuous_space(config: CollectConfig) -> None:
    actions = collect(replace(config, env=SLOPE)).actions
    assert -1 <= actions.min() < -0.9
    assert 0.9 < actions.max() <= 1


def test_scores_are_measured_where_the_environment_names_an_expert(config: CollectConfig) -> None:
    reference = collect(config).reference
    assert reference is not None
    random, expert = reference
    assert expert == 0.65
    assert -0.8 < random < 0.3
    assert collect(replace(config, env=OPEN, out=f"{config.out}.open")).reference is None


def test_a_thousand_steps_of_hopper_take_little_room(config: CollectConfig) -> None:
    pytest.importorskip("mujoco")
    data = collect(replace(config, env="Hopper-v5", steps=1000))
    assert Path(config.out).stat().st_size / data.steps < 64
    assert data.reference == (-20.272305, 3234.3)  # D4RL's


def test_data_names_the_version_of_its_environment(config: CollectConfig) -> None:
    assert collect(replace(config, env=ID.removesuffix("-v0"))).environment == ID


def test_cartpole_is_recorded(cartpole: Trajectories) -> None:
    assert cartpole.environment == "CartPole-v1"
    assert 15 < cartpole.returns().mean() < 30
    assert cartpole.reference == pytest.approx((22, 475), abs=6)  # 22.2 +- 1.2 over seeds 0-7


# ---------------------------------------------------------------------------------------------- interruptions


class Kill(BaseException):
    """The end of a process, as far as its files are concerned."""


def failing_after(steps: int, failure: Any) -> Any:
    """A method `step` of Recorder that fails once."""
    step, count = Recorder.step, [0]

    def failing(self: Recorder, action: Any) -> Any:
        count[0] += 1
        if count[0] == steps:
            failure()
        return step(self, action)

    return failing


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def kill() -> None:
    raise Kill


def interrupted(*_: Any) -> None:
    raise Interrupted


@pytest.mark.parametrize(("failure", "raised"), [(ctrl_c, Interrupted), (kill, Kill)])
@pytest.mark.parametrize("after", [700, 800, 900])
def test_an_interrupted_recording_continues(
    config: CollectConfig, monkeypatch: pytest.MonkeyPatch, failure: Any, raised: type[BaseException], after: int
) -> None:
    """The steps of measuring a random policy come first, then those that are recorded, in parts of 50."""
    monkeypatch.setattr(recording, "PART_STEPS", 50)
    whole = collect(replace(config, out=f"{config.out}.whole"))
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "step", failing_after(after, failure))
        with pytest.raises(raised) as end:
            collect(config)
    folder = Path(f"{config.out}.part")
    kept = sum(Trajectories.load(part).steps for part in folder.glob("episodes-*.npz"))
    if raised is Interrupted:
        assert str(end.value) == f"interrupted; {kept} steps are kept in {folder}, and the same command continues"
    assert not Path(config.out).exists()
    assert same(collect(config), whole)
    assert not folder.exists()


def test_a_recording_is_not_continued_by_another_command(
    config: CollectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "step", failing_after(900, ctrl_c))
        with pytest.raises(Interrupted):
            collect(config)
    with pytest.raises(ValueError, match=r"data.npz.part was begun with seed = 3, not 4: repeat that command"):
        collect(replace(config, seed=4))
    assert collect(replace(config, steps=100)).steps >= 100  # how much is asked for may change


def test_a_part_that_is_missing_is_named(config: CollectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "PART_STEPS", 50)
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "step", failing_after(900, ctrl_c))
        with pytest.raises(Interrupted):
            collect(config)
    Path(f"{config.out}.part", "episodes-000000.npz").unlink()
    with pytest.raises(ValueError, match=r"episodes-000000.npz is missing: remove the folder to begin anew, or name"):
        collect(config)


def test_ctrl_c_is_one_line_and_130(config: CollectConfig, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    monkeypatch.setattr(Recorder, "step", failing_after(1, ctrl_c))
    done = command("collect", "--env", ID, "--out", config.out)
    assert done.code == 130
    assert [line.split(";")[0] for line in done.err] == ["interrupted"]


# ---------------------------------------------------------------------------------------------- trained agents


@pytest.fixture
def ppo(config: CollectConfig, monkeypatch: pytest.MonkeyPatch) -> CollectConfig:
    """PPO in a corridor, where it soon goes straight ahead, the sooner for learning from little."""
    pytest.importorskip("stable_baselines3")
    monkeypatch.setitem(agents.ALGORITHMS, "ppo", {"n_steps": 32, "batch_size": 256, "learning_rate": 3e-3})
    return replace(config, policy="ppo", level="0.3", train_steps=20_000)


def test_an_agent_is_trained_to_a_level_and_then_recorded(
    ppo: CollectConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = collect(replace(ppo, level="0.6"))
    assert not list(tmp_path.glob("SB3-*"))  # where the library would log
    assert "notice" not in capsys.readouterr().err
    assert data.provenance["trained_return"] >= 0.6
    assert 0 < data.provenance["trained_steps"] < 20_000
    assert data.returns().mean() > 0.25  # 0.61 +- 0.07 over seeds 0-7; at random -0.4
    assert data.observations[:, 0].tolist() == np.rint(data.observations[:, 0]).tolist()  # raw: places
    assert 200 <= data.steps < 208


def test_a_replay_is_all_that_training_saw(ppo: CollectConfig) -> None:
    data = collect(replace(ppo, record="replay"))
    trained = data.provenance["trained_steps"]
    assert trained - 8 * LIMIT <= data.steps <= trained  # what was unfinished at its end is left out
    assert data.returns()[:40].mean() < 0 < 0.3 <= data.returns()[-40:].mean()  # first -0.38 +- 0.05, seeds 0-7
    assert data.observations[:, 0].tolist() == np.rint(data.observations[:, 0]).tolist()


def test_one_training_makes_a_replay_and_the_rollouts_of_its_agent(ppo: CollectConfig, tmp_path: Path) -> None:
    short, agent = replace(ppo, level="expert", train_steps=2048), str(tmp_path / "agent.pt")
    replay = collect(replace(short, record="replay", agent=agent, out=f"{ppo.out}.replay"))
    rolled = collect(replace(short, policy=agent))
    assert same(rolled, collect(replace(short, out=f"{ppo.out}.whole")))
    assert rolled.provenance["agent"] == replay.provenance
    with pytest.raises(ValueError, match=r"agent.pt exists already: remove it, or name another --agent"):
        collect(replace(short, agent=agent, out=f"{ppo.out}.again"))
    with pytest.raises(ValueError, match=r"agent.pt is damaged"):
        collect(replace(short, policy=agent, env="CartPole-v1", out=f"{ppo.out}.other"))


@pytest.mark.parametrize("record", ["rollouts", "replay"])
def test_interrupted_training_begins_anew(ppo: CollectConfig, monkeypatch: pytest.MonkeyPatch, record: Any) -> None:
    config = replace(ppo, record=record, level="expert", train_steps=1024)
    whole = collect(replace(config, out=f"{config.out}.whole"))
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "step", failing_after(1200, ctrl_c))  # those that measure a random policy included
        with pytest.raises(Interrupted, match="^interrupted; the same command begins the training of ppo anew$"):
            collect(config)
    assert not Path(f"{config.out}.part").exists()
    assert same(collect(config), whole)


def test_a_recording_is_continued_with_the_agent_that_was_trained(
    ppo: CollectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(ppo, level="expert", train_steps=1024)
    whole = collect(replace(config, out=f"{config.out}.whole"))
    with monkeypatch.context() as patch:
        patch.setattr(record, "record_steps", interrupted)
        with pytest.raises(Interrupted, match="^interrupted; 0 steps are kept in .*, and the same command continues$"):
            collect(config)
    monkeypatch.setattr(Teacher, "train", None)
    continued = collect(config)
    assert same(continued, whole)
    assert continued.provenance["trained_return"] == whole.provenance["trained_return"]


def test_a_level_that_is_not_reached_is_a_failure_with_a_way_out(
    ppo: CollectConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(ppo, level="0.9", train_steps=2048)  # more than can be reached
    with pytest.raises(RunFailure, match=r"^ppo reached a return of .* in 2,048 steps .*, not 0.9: .* --train-steps"):
        collect(config)
    assert not Path(f"{config.out}.part").exists()
    expert = collect(replace(config, level="expert", train_steps=256, out=f"{config.out}.expert"))
    assert expert.provenance["trained_steps"] == 256  # as good as it is
    assert "in 256 steps of training, not 0.65: this is taken for the expert\n" in capsys.readouterr().err


def test_an_expert_without_a_score_is_one_of_its_own(ppo: CollectConfig, capsys: pytest.CaptureFixture[str]) -> None:
    data = collect(replace(ppo, env=OPEN, level="expert", train_steps=4096))
    assert "that of an expert is unknown: this is taken for the expert\n" in capsys.readouterr().err
    assert data.reference is not None
    assert data.reference[1] == pytest.approx(data.returns().mean(), abs=0.05)
    with pytest.raises(ValueError, match=f"expert in {OPEN} is unknown: give --level as a number"):
        collect(replace(ppo, env=OPEN, level="medium", out=f"{ppo.out}.medium"))


def test_medium_is_a_third_of_the_way(ppo: CollectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    goals = []
    monkeypatch.setattr(Teacher, "train", lambda self: goals.append(self.goal))
    for level in ("medium", "expert"):
        data = collect(replace(ppo, level=level, out=f"{ppo.out}.{level}"))
    assert data.reference is not None
    random, expert = data.reference
    assert goals == pytest.approx([random + (expert - random) / 3, expert])


def test_sac_acts_in_continuous_spaces(ppo: CollectConfig) -> None:
    data = collect(replace(ppo, env=SLOPE, policy="sac", level="expert", train_steps=120, steps=50))
    assert data.provenance["trained_steps"] == 120
    assert data.actions.min() >= -1
    assert data.actions.max() <= 1


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_an_agent_acts_as_before_when_it_is_loaded(tmp_path: Path, algorithm: str) -> None:
    pytest.importorskip("stable_baselines3")
    stop, path = StopRequest(), tmp_path / "agent.pt"
    one, other = (agents.Agent(algorithm, [Recorder(gymnasium.make(SLOPE), stop)], seed) for seed in (1, 2))
    one.train(150, lambda: True)
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


def described_by(path: Path, data: Any) -> None:
    """Rewrites an agent's file, its settings being `data`."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (parts | {"data": json.dumps(data).encode()}).items():
            archive.writestr(name, content)


def test_agents_that_cannot_be_read_are_refused(config: CollectConfig, tmp_path: Path) -> None:
    saved_by_the_library(tmp_path / "agent.zip", policy_kwargs={"activation_fn": torch.nn.ReLU})
    with pytest.raises(ValueError, match="the network of .*agent.zip is described by a pickle, which is not read"):
        collect(replace(config, policy=str(tmp_path / "agent.zip")))
    saved_by_the_library(tmp_path / "agent.zip", "CartPole-v1")
    with pytest.raises(ValueError, match=f"agent.zip is not an agent of PPO's or SAC's for {ID[-11:]}: "):
        collect(replace(config, policy=str(tmp_path / "agent.zip")))
    described_by(tmp_path / "agent.zip", {"policy_kwargs": {"lstm_hidden_size": 8}})
    with pytest.raises(
        ValueError, match=r"agent.zip is not an agent of PPO's or SAC's for Corridor-v0: .*lstm_hidden_size"
    ):
        collect(replace(config, policy=str(tmp_path / "agent.zip")))
    for data in ([], {"policy_kwargs": None}):
        described_by(tmp_path / "agent.zip", data)
        with pytest.raises(ValueError, match="agent.zip is cut short, .*: it does not"):
            collect(replace(config, policy=str(tmp_path / "agent.zip")))
    (tmp_path / "agent.zip").write_bytes((tmp_path / "agent.zip").read_bytes()[:1000])
    with pytest.raises(ValueError, match="agent.zip is cut short"):
        collect(replace(config, policy=str(tmp_path / "agent.zip")))


# ---------------------------------------------------------------------------------------------- joining


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two files of data of one environment."""
    paths = [tmp_path / "one.npz", tmp_path / "two.npz"]
    for seed, path in enumerate(paths):
        metadata: dict[str, Any] = {"environment": "CartPole-v1", "provenance": {"policy": f"number {seed}"}}
        trajectories([3, 4], seed=seed, **metadata).save(path)
    return paths


def test_data_sets_are_joined(two: list[Path], tmp_path: Path, command: Command) -> None:
    done = command("collect", "--join", *two, "--out", tmp_path / "both.npz")
    assert (done.code, done.err) == (0, [])
    assert done.out.startswith(f"{tmp_path / 'both.npz'}: 4 episodes, 14 steps of CartPole-v1; returns ")
    both = load_data(tmp_path / "both.npz")
    assert both.lengths().tolist() == [3, 4, 3, 4]
    assert [part["policy"] for part in both.provenance["joined"]] == ["number 0", "number 1"]


def test_data_goes_to_minari_and_back(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    assert command("collect", "--join", two[0], "--out", "minari:cartpole/few-v0").code == 0
    assert command("collect", "--join", "minari:cartpole/few-v0", "--out", tmp_path / "back.npz").code == 0
    assert same(load_data(two[0]), load_data(tmp_path / "back.npz"))


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--steps 5 --out {out}", "name an environment to record with --env, or data sets to join with --join"),
        ("--env CartPole-v1", "name the file to write with --out"),
        ("--env CartPool-v1 --out {out}", "there is no environment 'CartPool-v1'; did you mean 'CartPole-v1'?"),
        ("--env CartPole-v1 --policy nobody --out {out}", "policy = 'nobody' is not one of: random, ppo, sac, module:"),
        (
            "--env CartPole-v1 --policy no.module:act --out {out}",
            "policy = 'no.module:act' cannot be imported: ModuleNo",
        ),
        (f"--env {ID} --policy tests.decision.corridor:gone --out {{out}}", "cannot be imported: AttributeError: "),
        (
            f"--env {ID} --policy tests.decision.corridor:NOT_A_FUNCTION --out {{out}}",
            "is not a function of an observation",
        ),
        (
            f"--env {ID} --policy tests.decision.corridor:nowhere --out {{out}}",
            "returned 2, which is not an action of discrete",
        ),
        (
            f"--env {BROKEN} --out {{out}}",
            "Broken-v0 returned an observation that is not finite, at step 2 of the episode of seed ",
        ),
        (
            f"--env {of('Spoken')} --out {{out}}",
            "observations of Spoken-v0 are not handled: a space Text is neither a Box",
        ),
        (f"--env {of('Pair')} --out {{out}}", "actions of Pair-v0 are not handled: a space Dict is neither a Box nor"),
        (f"--env {of('Steps')} --out {{out}}", "actions of box (1,) of int64 are not handled: boxes of floats, discre"),
        (f"--env {of('Narrow')} --out {{out}}", "Narrow-v0 returned an observation of shape (1,)"),
        ("--env CartPole-v1 --level medium --out {out}", "--level has no effect: only ppo and sac are trained"),
        (
            "--env CartPole-v1 --policy ppo --level high --out {out}",
            "level = 'high' is not one of: medium, expert, a nu",
        ),
        (
            "--env CartPole-v1 --policy ppo --record replay --steps 5 --out {out}",
            "--steps has no effect: a replay is as",
        ),
        (
            "--env CartPole-v1 --policy ppo --record replay --envs 4 --out {out}",
            "--envs has no effect: training has 8",
        ),
        ("--env CartPole-v1 --agent a.pt --out {out}", "--agent has no effect: only ppo and sac are trained"),
        ("--env CartPole-v1 --policy ppo --agent a.zip --out {out}", "agent = 'a.zip' must end in .pt"),
        ("--env CartPole-v1 --out minari:x/y-v0", "out = 'minari:x/y-v0' needs --join: record to a file first, then"),
        ("--env CartPole-v1 --out {out}.hdf5", "out.npz.hdf5' would be read as a file of D4RL's: give it another end"),
        ("--join {two} --out {out}.H5", "out.npz.H5' would be read as a file of D4RL's: give it another ending"),
        ("--env CartPole-v1 --steps 0 --out {out}", "steps = 0 must be above 0"),
        ("--env CartPole-v1 --polizy random --out {out}", "unknown option --polizy; did you mean --policy?"),
        ("--join {two} --env CartPole-v1 --out {out}", "--env has no effect: --join records nothing"),
        ("--join {two} {other} --out {out}", "data set 2 is of 'Other-v0', the first of 'CartPole-v1'"),
        ("--join {two} nothing.npz --out {out}", "there is no data 'nothing.npz'; accepted are: "),
        ("--join {two} minari:nothing --out {out}", "minari:nothing has no version, as minari:NAME-v0 has"),
        ("--join {two} --out {two}", "one.npz exists already: remove it, or name another --out"),
        ("--join {two}", "name the file to write with --out"),
        ("--env CartPole-v1 --out {two}", "one.npz exists already: remove it, or name another --out"),
    ],
)
def test_bad_commands_are_one_line(
    arguments: str, sentence: str, two: list[Path], tmp_path: Path, command: Command
) -> None:
    trajectories([3], environment="Other-v0").save(tmp_path / "other.npz")
    places = {"out": tmp_path / "out.npz", "two": two[0], "other": tmp_path / "other.npz"}
    done = command("collect", *(word.format(**places) for word in arguments.split()))
    assert done.code == 2
    assert len(done.err) == 1
    assert done.err[0].startswith("error: ")
    assert sentence in done.err[0]
    assert {path.name for path in tmp_path.iterdir()} == {"one.npz", "two.npz", "other.npz"}


def test_sac_is_refused_where_actions_are_choices(config: CollectConfig) -> None:
    pytest.importorskip("stable_baselines3")
    with pytest.raises(ValueError, match=r"policy = 'sac' takes continuous actions, those of Corridor-v0 are discrete"):
        collect(replace(config, policy="sac"))


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


def test_a_target_without_effect_is_refused(config: CollectConfig, tmp_path: Path) -> None:
    collect(replace(config, out=str(tmp_path / "learnt.npz")))
    shape = DecisionConfig(context=5, core=modern_core(16, 1, 2), returns="none")
    settings: dict[str, Any] = {"device": "cpu", "batch_size": 8, "eval_episodes": 1}
    train(TrainConfig(out=tmp_path / "run", steps=1, data=str(tmp_path / "learnt.npz"), model=shape, **settings))
    cloned = replace(config, policy=str(tmp_path / "run"), steps=8)
    with pytest.raises(ValueError, match="--target-return has no effect: the model takes no return to reach"):
        collect(replace(cloned, target_return=1.0))
    assert collect(cloned).provenance["target_return"] is None


def test_what_is_to_be_installed_is_said(config: CollectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ValueError, match="needs the library stable_baselines3, .*: pip install 'stable-baselines3'"):
        collect(replace(config, policy="ppo"))


def test_bad_input_leaves_no_folder_behind(config: CollectConfig, tmp_path: Path) -> None:
    for policy in ("nobody", "no.module:act"):
        with pytest.raises(ValueError, match="policy = "):
            collect(replace(config, policy=policy))
    assert list(tmp_path.iterdir()) == []


def test_versions_are_noted(cartpole: Trajectories) -> None:
    assert cartpole.provenance["versions"]["gymnasium"] == gymnasium.__version__
    assert set(record.versions()) <= set(record.PACKAGES)
