"""Environments by name: what is made, what is refused by which sentence, and seeds of episodes."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from decision.environments.make import episode_seed, full_name, make, require_length, require_spaces
from decision.environments.settings import EnvSettings
from decision.environments.spaces import describe
from tests.decision.toys import BOX, DISCRETE, VECTOR

TASK = "tests.decision.environments.test_make:Dictionary-v0"


class Dictionary(gymnasium.Env):
    """Shows a dictionary of a choice, two numbers and a pair."""

    observation_space = spaces.Dict(
        {"where": spaces.Discrete(3), "how": spaces.Box(-1, 1, (2,)), "pair": spaces.Tuple([spaces.Box(0, 9, (1,))])}
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seen = {"where": 2, "how": np.array([0.5, -0.5], np.float32), "pair": (np.array([4.0], np.float32),)}
        return self.seen, {}

    def step(self, action):
        return self.seen, 1.0, True, False, {}


class Nested(Dictionary):
    """Takes a pair of choices, and never ends."""

    action_space = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)])


class Stubborn(Dictionary):
    """Cannot be made."""

    def __init__(self):
        raise TypeError("a map is needed")


class Lost(Dictionary):
    """Cannot be made either."""

    def __init__(self):
        Path("no such map").read_text()


for name, kind, limit in (
    ("Dictionary", Dictionary, 7),
    ("Nested", Nested, None),
    ("Stubborn", Stubborn, 7),
    ("Lost", Lost, 7),
):
    if f"{name}-v0" not in gymnasium.registry:
        gymnasium.register(f"{name}-v0", kind, max_episode_steps=limit)


def test_dictionaries_and_tuples_are_flattened_to_numbers():
    environment = make(TASK)
    assert describe(environment.observation_space).shape == (3 + 2 + 1,)
    seen, _ = environment.reset(seed=0)
    assert sorted(seen.tolist()) == sorted([0, 0, 1, 0.5, -0.5, 4])


def test_a_limit_of_steps_takes_the_place_of_the_environments_own():
    for wanted, limit in ((None, 500), (3, 3)):
        environment = make("CartPole-v1", max_steps=wanted)
        assert environment.spec.max_episode_steps == limit
    environment.reset(seed=0)
    *_, last = [environment.step(step % 2) for step in range(3)]
    assert last[2:4] == (False, True)  # cut off, not over


def test_only_an_environment_without_a_limit_is_cut_off_where_a_model_ends():
    for task, limit in (("CartPole-v1", 500), (TASK.replace("Dictionary", "Nested"), 9)):
        environment = make(task, longest=9)
        assert environment.spec.max_episode_steps == limit


@pytest.mark.parametrize(("name", "why"), [("Stubborn", "a map is needed"), ("Lost", ".* 'no such map'")])
def test_an_environment_that_cannot_be_made_says_why(name, why):
    with pytest.raises(ValueError, match=f"^.*:{name}-v0 cannot be made: {why}"):
        make(TASK.replace("Dictionary", name))


@pytest.mark.filterwarnings("error")
def test_an_unversioned_name_is_the_newest_version_without_a_word():
    for given, full in (("CartPole", "CartPole-v1"), (TASK.removesuffix("-v0"), TASK)):
        assert full_name(given, make(given)) == full


def test_robots_are_made_in_silence(tmp_path, monkeypatch, capfd):
    mujoco = pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)
    make("HalfCheetah-v5").close()
    assert (*capfd.readouterr(), *tmp_path.iterdir()) == ("", "")
    assert mujoco.get_mju_user_warning() is None


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("CartPole-v9", "there is no environment 'CartPole-v9'; did you mean 'CartPole-v1'?"),
        ("Hoper-v5", "there is no environment 'Hoper-v5'; did you mean 'Hopper-v5'?"),
        ("LunarLander-v2", "there is no environment 'LunarLander-v2'; did you mean 'LunarLander-v3'?"),
        ("no_such_module:Task-v0", "there is no environment 'no_such_module:Task-v0'; No module named"),
        ("nothing like it", "there is no environment 'nothing like it'; Malformed environment ID"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, sentence):
    with pytest.raises(ValueError, match="there is no environment") as refused:
        make(name)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "module", "remedy"),
    [
        ("Hopper-v5", "mujoco", 'pip install "triptych[mujoco]"'),
        ("LunarLander-v3", "Box2D", 'pip install "triptych[box2d]"'),
    ],
)
def test_a_simulator_that_is_not_installed_is_named_with_its_remedy(name, module, remedy, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    for loaded in [loaded for loaded in sys.modules if loaded.startswith(f"gymnasium.envs.{module.lower()}")]:
        monkeypatch.delitem(sys.modules, loaded)
    with pytest.raises(ValueError, match="needs a simulator that is not installed") as refused:
        make(name)
    assert str(refused.value).endswith(remedy)


def test_another_environment_is_refused_by_what_differs():
    environment = make("CartPole-v1")
    shown, taken = describe(environment.observation_space), describe(environment.action_space)
    require_spaces(environment, shown, taken, "the model")
    with pytest.raises(ValueError, match=r"observations of CartPole-v1 are .*, not box \(2,\) .* as those of the data"):
        require_spaces(environment, BOX, taken, "the data")
    with pytest.raises(
        ValueError, match=r"actions of CartPole-v1 are discrete \(2,\), not discrete \(3,\) as those of"
    ):
        require_spaces(environment, VECTOR, DISCRETE, "the data")
    nested = make(TASK.replace("Dictionary", "Nested"))
    with pytest.raises(ValueError, match="a space Tuple is neither a Box nor made of choices"):
        require_spaces(nested, describe(nested.observation_space), DISCRETE, "the data")


def test_longer_episodes_than_a_table_of_timesteps_are_refused():
    environment = make("CartPole-v1")
    require_length(environment, 500)
    require_length(environment, None)
    with pytest.raises(ValueError, match="episodes of CartPole-v1 last up to 500 steps, .* ends at 499"):
        require_length(environment, 499)
    endless = make(TASK.replace("Dictionary", "Nested"))
    require_length(endless, None)
    with pytest.raises(ValueError, match="episodes of Nested-v0 have no limit of steps, .* ends at 499: give a limit"):
        require_length(endless, 499)


def test_seeds_of_episodes_depend_on_the_seed_and_the_number_only():
    seeds = [[episode_seed(seed, episode) for episode in range(50)] for seed in range(4)]
    assert len({one for row in seeds for one in row}) == 200
    assert seeds[2][7] == episode_seed(2, 7)
    assert all(0 <= one < 2**31 for row in seeds for one in row)


class Unfit(gymnasium.Env):
    """Shows bytes, and brings rewards, as it was told to."""

    observation_space = spaces.Box(0, 255, (2,), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, seen=(1, 2), reward=1.0):
        self.seen, self.reward = seen, reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.array([0, 1], np.uint8), {}

    def step(self, action):
        return self.seen, self.reward, False, False, {}


if "Unfit-v0" not in gymnasium.registry:
    gymnasium.register("Unfit-v0", Unfit, max_episode_steps=5)


@pytest.mark.parametrize(
    ("seen", "shown"),
    [([-1, 2], "-1 in"), ([300, 2], "300 in"), ([0.5, 1.0], "0.5 in"), ([np.nan, 1.0], "nan in"), (["a", "b"], "<U1")],
)
def test_numbers_that_a_cast_would_destroy_are_refused_with_step_and_seed(seen, shown):
    environment = make("Unfit-v0", EnvSettings(kwargs={"seen": seen if seen[0] == seen[0] else None}))
    environment.unwrapped.seen = np.array(seen)
    environment.reset(seed=17)
    with pytest.raises(ValueError, match=f"Unfit-v0 returned .*{shown}.*, at step 1 of the episode of seed 17$"):
        environment.step(0)


@pytest.mark.parametrize("seen", [[3, 250], (3.0, 250.0), np.array([3, 250], np.int64)])
@pytest.mark.parametrize("reward", [np.array([2.5]), 2.5, np.float32(2.5), np.array(2.5), [2.5]])
def test_what_loses_nothing_is_taken(seen, reward):
    environment = make("Unfit-v0")
    environment.unwrapped.seen, environment.unwrapped.reward = seen, reward
    environment.reset(seed=0)
    observation, brought, *_ = environment.step(0)
    assert (observation.tolist(), brought, type(brought)) == ([3, 250], 2.5, float)


@pytest.mark.parametrize("reward", [np.zeros(2), None, "much", [[1.0], [2.0]]])
def test_a_reward_that_is_not_one_number_is_refused(reward):
    environment = make("Unfit-v0")
    environment.unwrapped.reward = reward
    environment.reset(seed=4)
    with pytest.raises(
        ValueError, match="Unfit-v0 returned .* instead of one reward, at step 0 of the episode of seed 4"
    ):
        environment.step(0)
