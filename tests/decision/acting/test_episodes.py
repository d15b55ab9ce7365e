"""Episodes in real environments: as one by one, the same for each target, none left out."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from decision.acting.episodes import play, roll_out
from decision.acting.policy import ModelPolicy
from decision.environments.make import episode_seed, make, open_environments
from tests.decision import corridor
from tests.decision.acting.recomputed import Recomputed
from tests.decision.painted import PAINTED
from tests.decision.toys import agent, agent_for


class Watched(gymnasium.Wrapper):
    """Remembers what it showed first and which actions it was given."""

    def reset(self, **settings):
        shown = self.env.reset(**settings)
        self.first, self.actions = shown[0], []
        return shown

    def step(self, action):
        self.actions.append(np.array(action))
        return self.env.step(action)


@pytest.mark.parametrize(("name", "context"), [("CartPole-v1", 4), ("Pendulum-v1", 6)])
@pytest.mark.parametrize("returns", ["token", "none"])
def test_batched_rollouts_take_the_actions_of_one_by_one_recomputation(name, context, returns):
    """Over the ends of episodes, and over many beginnings of the window."""
    model, normaliser = agent_for(name, context=context, returns=returns)
    targets, seeds = [20.0, 30.0, 250.0, -400.0], [5, 6, 7, 8]
    environments = [Watched(make(name, max_steps=40)) for _ in targets]
    together = play(environments, seeds, ModelPolicy(model, normaliser, targets))
    assert together.lengths.max() > 3 * context or name == "CartPole-v1"
    assert together.lengths.min() > context
    for row, (target, seed) in enumerate(zip(targets, seeds, strict=True)):
        one = Watched(make(name, max_steps=40))
        alone = play([one], [seed], Recomputed(model, normaliser, target))
        np.testing.assert_allclose(environments[row].actions, one.actions, atol=1e-4)
        assert (alone.lengths[0], alone.terminated[0]) == (together.lengths[row], together.terminated[row])
        assert alone.returns[0] == pytest.approx(together.returns[row], rel=1e-4)


def test_every_target_meets_the_same_episodes():
    model, normaliser = agent_for("CartPole-v1")
    environments = [Watched(make("CartPole-v1", max_steps=3)) for _ in range(6)]
    roll_out(model, normaliser, environments, [10.0, 400.0], episodes=3, seed=4)
    first = [environment.first.tolist() for environment in environments]
    assert first[:3] == first[3:]
    assert len(set(map(tuple, first))) == 3
    assert first[1] == make("CartPole-v1").reset(seed=episode_seed(4, 1))[0].tolist()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_how_many_act_at_once_changes_nothing(temperature):
    model, normaliser = agent_for("CartPole-v1")
    found = []
    for at_once in (1, 4, 10):
        with open_environments("CartPole-v1", at_once) as environments:
            found.append(roll_out(model, normaliser, environments, [10, 80], 5, seed=1, temperature=temperature))
    for other in found[1:]:
        for a, b in zip(found[0].results, other.results, strict=True):
            np.testing.assert_array_equal(a.episodes, b.episodes)
    assert found[0].steps == sum(int(o.episodes.lengths.sum()) for o in found[0].results)


def test_every_episode_counts_however_long_it_lasts():
    """Returns, lengths and ends are those of the environment's own draws; none is taken for being done first."""
    model, normaliser = agent_for(PAINTED)
    ended = []
    with open_environments(PAINTED, 3) as environments:
        [outcome] = roll_out(model, normaliser, environments, [5.0], 20, progress=ended.append).results
    own = [int(make(PAINTED).reset(seed=episode_seed(0, e))[0][1]) for e in range(20)]
    assert outcome.episodes.lengths.tolist() == [min(steps, 9) for steps in own]
    assert outcome.episodes.terminated.tolist() == [steps <= 9 for steps in own]  # else a limit of time cut it off
    assert 0 < outcome.episodes.terminated.sum() < 20
    assert sum(ended) == 20


class Listening:
    """Acts by chance, and remembers for each episode, known by its length, what it was told."""

    def __init__(self):
        self.told, self.taken, self.rng = {}, {}, np.random.default_rng(0)

    def act(self, observations, rewards=None):
        actions = self.rng.integers(2, size=len(observations))
        for row, (gone, steps) in enumerate(observations.tolist()):
            self.told.setdefault(steps, []).append((gone, None if rewards is None else rewards[row]))
            self.taken.setdefault(steps, []).append(actions[row])
        return actions

    def keep(self, rows):
        self.kept = rows


def test_who_acts_is_told_of_the_own_episode_only():
    """A reward of `Painted` is the action that brought it."""
    seeds = {int(make(PAINTED).reset(seed=s)[0][1]): s for s in range(60)}
    policy = Listening()
    with open_environments(PAINTED, len(seeds)) as environments:
        found = play(environments, list(seeds.values()), policy)
    assert len(seeds) > 6
    for row, steps in enumerate(seeds):
        told, taken = policy.told[steps], policy.taken[steps]
        assert [gone for gone, _ in told] == list(range(min(steps, 9)))
        assert [reward for _, reward in told] == [None, *taken[:-1]]
        assert found.returns[row] == sum(taken)


class Spoilt(gymnasium.Wrapper):
    """What comes of one step is not finite."""

    def __init__(self, environment, what, step, value):
        super().__init__(environment)
        self.what, self.at, self.value = what, step, value

    def step(self, action):
        seen, reward, *ends = self.env.step(action)
        if self.env.unwrapped.gone == self.at:
            seen, reward = (seen * self.value, reward) if self.what == "an observation" else (seen, self.value)
        return seen, reward, *ends


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize(("what", "step"), [("an observation", 2), ("a reward", 1), ("a reward", 8)])
def test_a_number_that_is_not_finite_is_named_with_its_place(what, step, value):
    model, normaliser = agent_for(PAINTED)
    seeds = [seed for seed in range(40) if make(PAINTED).reset(seed=seed)[0][1] >= 9]
    short = next(seed for seed in range(40) if seed not in seeds)
    gone = step + (what == "a reward")  # the reward of the step that leads there
    environments = [make(PAINTED), make(PAINTED), Spoilt(make(PAINTED), what, gone, value)]
    where = f"at step {step} of the episode of seed {seeds[1]}$"
    with pytest.raises(ValueError, match=f"Painted-v0 returned {what} that is not finite, {where}"):
        play(environments, [short, *seeds[:2]], ModelPolicy(model, normaliser, [5.0] * 3))


def test_an_observation_of_another_shape_than_declared_is_refused():
    narrow = make(corridor.ID.replace("Corridor", "Narrow"))
    with pytest.raises(ValueError, match=r"Narrow-v0 .* observation of shape \(1,\), .* \(2,\)"):
        play([narrow], [0], Listening())


def test_a_model_that_is_told_no_return_has_one_outcome():
    model, normaliser = agent_for("CartPole-v1", returns="none")
    with open_environments("CartPole-v1", 3) as environments:
        found = roll_out(model, normaliser, environments, [], 3)
    assert [outcome.target for outcome in found.results] == [None]
    assert found.rank_correlation() is None


def test_what_does_not_fit_is_refused_before_the_first_step():
    model, normaliser = agent_for("CartPole-v1")
    with (
        open_environments("Pendulum-v1", 1) as other,
        pytest.raises(ValueError, match="observations of Pendulum-v1 are"),
    ):
        roll_out(model, normaliser, other, [5.0], 1)
    short, _ = agent_for("CartPole-v1", timesteps="embedded", max_timestep=100, core=agent().config.core)
    with (
        open_environments("CartPole-v1", 1) as long,
        pytest.raises(ValueError, match="last up to 500 steps, the model's table"),
    ):
        roll_out(short, normaliser, long, [5.0], 1)
    with open_environments("CartPole-v1", 1, max_steps=100) as cut:
        roll_out(short, normaliser, cut, [5.0], 1)
    with (
        open_environments("CartPole-v1", 1) as environments,
        pytest.raises(ValueError, match="target_return = nan must be"),
    ):
        roll_out(model, normaliser, environments, [float("nan")], 1)
