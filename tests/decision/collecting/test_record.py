"""Recording: what is recorded is what happened, and interruptions lose nothing."""

from __future__ import annotations

import inspect
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest

from core.cli.exits import Interrupted
from decision.acting import episodes
from decision.collecting import record, recording
from decision.collecting.config import CollectConfig
from decision.collecting.record import collect
from decision.collecting.recording import Recorder
from decision.collecting.teacher import first_seed
from decision.config import TrainConfig
from decision.data.store import Trajectories
from decision.models.config import DecisionConfig
from decision.presets import modern_core
from decision.tasks.loop import train
from tests.decision.collecting.interruptions import Kill, ctrl_c, failing_after, kill
from tests.decision.corridor import ID, LIMIT, OPEN, SLOPE
from tests.decision.examples import same
from tests.processes import Command


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


def test_ctrl_c_is_acknowledged_and_130(
    config: CollectConfig, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setattr(Recorder, "step", failing_after(1, ctrl_c))
    done = command("collect", "--env", ID, "--out", config.out)
    assert done.code == 130
    assert [line.split(";")[0].split(":")[0] for line in done.err] == ["stopping", "interrupted"]


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


CHOICES: dict[str, Any] = {}
if "dtype" in inspect.signature(gymnasium.spaces.Discrete).parameters:  # older versions have choices of one type
    CHOICES["dtype"] = np.int32


class Odd(gymnasium.Env[Any, Any]):
    """One of it at most; a dictionary is seen, choices are of 32 bits, rewards and ends are arrays; limit: of steps."""

    observation_space = gymnasium.spaces.Dict(
        place=gymnasium.spaces.Box(-9, 9, (2,), np.float64), room=gymnasium.spaces.Discrete(3)
    )
    action_space = gymnasium.spaces.Discrete(2, **CHOICES)
    alive: ClassVar[list[Any]] = []

    def __init__(self, limit: int = 6):
        self.limit = limit
        self.alive.append(self)
        assert len(self.alive) == 1

    def close(self) -> None:
        self.alive.clear()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, Any, Any, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.steps += 1
        return self._seen(), np.array([float(action)]), np.array(self.steps == self.limit), False, {}

    def _seen(self) -> Any:
        return {"place": np.array([0.1, self.steps]), "room": self.steps % 3}


if "Odd-v0" not in gymnasium.registry:
    gymnasium.register("Odd-v0", Odd)
ODD = f"{__name__}:Odd-v0"


def by_room(observation: Any) -> int:
    """Takes what the environment shows, to the last digit."""
    assert observation["place"].dtype == np.float64
    assert observation["place"][0] == 0.1
    return int(observation["room"] == 1)


def test_a_function_sees_what_the_environment_shows(config: CollectConfig) -> None:
    data = collect(replace(config, env=ODD, policy=f"{__name__}:by_room", steps=12, envs=1))
    assert data.actions.tolist() == data.rewards.tolist() == [0, 1, 0, 0, 1, 0] * 2
    assert data.observations[1].tolist() == np.float32([0.1, 1, 0, 1, 0]).tolist()
    assert data.terminated[5]


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_an_agent_is_trained_in_an_environment_of_which_there_may_be_one_only(
    config: CollectConfig, algorithm: str
) -> None:
    pytest.importorskip("stable_baselines3")
    data = collect(replace(config, env=ODD, policy=algorithm, record="replay", train_steps=24, envs=1))
    assert data.steps >= 24
    assert set(data.lengths()) == {6}


def test_an_episode_without_end_is_cut_off_or_refused_but_never_waited_for(
    config: CollectConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(episodes, "ENDLESS", 50)
    endless = replace(config, env=ODD, env_args=("limit=-1",), envs=1)
    with pytest.raises(ValueError, match="Odd-v0 has not ended after 50 steps, .* no limit .*--max-steps"):
        collect(endless)
    assert "Odd-v0 has no limit of steps: --max-steps" in capsys.readouterr().err
    data = collect(replace(endless, max_steps=70))
    assert data.lengths().tolist() == [70] * 3
    assert data.truncated[data.offsets[1:] - 1].all()
    assert data.settings.max_steps == 70
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="max_steps = 70 and env_args = .* both set a limit"):
        replace(endless, env_args=("max_episode_steps=9",), max_steps=70)


def test_the_training_of_an_agent_ends_where_an_episode_does_not(
    config: CollectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("stable_baselines3")
    monkeypatch.setattr(episodes, "ENDLESS", 50)
    with pytest.raises(ValueError, match="has not ended after 50 steps"):
        collect(replace(config, env=ODD, env_args=("limit=-1",), envs=1, policy="ppo", train_steps=10_000))


class Vague(Odd):
    """Rewards with two numbers at once."""

    def step(self, action: Any) -> tuple[Any, Any, Any, bool, dict[str, Any]]:
        return self._seen(), np.zeros(2), True, False, {}


if "Vague-v0" not in gymnasium.registry:
    gymnasium.register("Vague-v0", Vague)


def test_a_reward_that_is_not_one_number_is_refused(config: CollectConfig) -> None:
    with pytest.raises(ValueError, match=r"Vague-v0 returned array.* instead of one reward, at step 0"):
        collect(replace(config, env=f"{__name__}:Vague-v0", envs=1))
