"""Rollouts in real environments: as one by one, the same for each target, nothing left out; table, picture, film."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from PIL import Image

from core.cli.arguments import parse_fields
from core.messages import number
from decision.acting.episodes import Episodes, Outcome, Rollouts, opened, play, rollouts
from decision.acting.policy import Actors
from decision.data.load import Summary
from decision.environments.make import episode_seed, make
from decision.environments.spaces import describe
from decision.environments.video import Filmed, check_format, make_filmed, write_film
from decision.rollout import RolloutConfig, choose_targets, figures, report, table
from tests.decision import corridor
from tests.decision.acting.recomputed import Recomputed
from tests.decision.toys import agent, unscaled

PAINTED = "tests.decision.test_rollout:Painted-v0"


class Painted(gymnasium.Env):
    """Ends of itself after as many steps as its first draw says; shows and paints how many are gone."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-9, 99, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.gone, self.all = 0, int(self.np_random.integers(2, 12))
        return self.seen(), {}

    def step(self, action):
        self.gone += 1
        return self.seen(), float(action), self.gone == self.all, False, {}

    def seen(self):
        return np.array([self.gone, self.all], np.float32)

    def render(self):
        return np.full((20, 30, 3), 10 * self.gone, np.uint8)


if "Painted-v0" not in gymnasium.registry:
    gymnasium.register("Painted-v0", Painted, max_episode_steps=9)


def agent_for(name: str, **changes):
    environment = make(name)
    shown, taken = describe(environment.observation_space), describe(environment.action_space)
    return agent("rotary", taken, shown, **changes), unscaled(shown, 100.0)


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
    together = play(environments, seeds, Actors(model, normaliser, targets))
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
    rollouts(model, normaliser, environments, [10.0, 400.0], episodes=3, seed=4)
    first = [environment.first.tolist() for environment in environments]
    assert first[:3] == first[3:]
    assert len(set(map(tuple, first))) == 3
    assert first[1] == make("CartPole-v1").reset(seed=episode_seed(4, 1))[0].tolist()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_how_many_act_at_once_changes_nothing(temperature):
    model, normaliser = agent_for("CartPole-v1")
    found = []
    for at_once in (1, 4, 10):
        with opened("CartPole-v1", at_once) as environments:
            found.append(rollouts(model, normaliser, environments, [10, 80], 5, seed=1, temperature=temperature))
    for other in found[1:]:
        for a, b in zip(found[0].outcomes, other.outcomes, strict=True):
            np.testing.assert_array_equal(a.episodes, b.episodes)
    assert found[0].steps == sum(int(o.episodes.lengths.sum()) for o in found[0].outcomes)


def test_every_episode_counts_however_long_it_lasts():
    """Returns, lengths and ends are those of the environment's own draws; none is taken for being done first."""
    model, normaliser = agent_for(PAINTED)
    ended = []
    with opened(PAINTED, 3) as environments:
        [outcome] = rollouts(model, normaliser, environments, [5.0], 20, watch=ended.append).outcomes
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
    actors = Listening()
    with opened(PAINTED, len(seeds)) as environments:
        found = play(environments, list(seeds.values()), actors)
    assert len(seeds) > 6
    for row, steps in enumerate(seeds):
        told, taken = actors.told[steps], actors.taken[steps]
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
    with pytest.raises(ValueError, match=f"Painted-v0 gave {what} that is not finite, {where}"):
        play(environments, [short, *seeds[:2]], Actors(model, normaliser, [5.0] * 3))


def test_an_observation_of_another_shape_than_declared_is_refused():
    narrow = make(corridor.ID.replace("Corridor", "Narrow"))
    with pytest.raises(ValueError, match=r"^Narrow-v0 gave an observation of shape \(1,\), its .* says \(2,\)$"):
        play([narrow], [0], Listening())


def test_a_model_that_is_told_no_return_has_one_outcome():
    model, normaliser = agent_for("CartPole-v1", returns="none")
    with opened("CartPole-v1", 3) as environments:
        found = rollouts(model, normaliser, environments, [], 3)
    assert [outcome.target for outcome in found.outcomes] == [None]
    assert found.rank_correlation() is None


def test_what_does_not_fit_is_refused_before_the_first_step():
    model, normaliser = agent_for("CartPole-v1")
    with opened("Pendulum-v1", 1) as other, pytest.raises(ValueError, match="observations of Pendulum-v1 are"):
        rollouts(model, normaliser, other, [5.0], 1)
    short, _ = agent_for("CartPole-v1", timesteps="embedded", max_timestep=100, core=agent().config.core)
    with opened("CartPole-v1", 1) as long, pytest.raises(ValueError, match="last up to 500 steps, the model's table"):
        rollouts(short, normaliser, long, [5.0], 1)
    with opened("CartPole-v1", 1, max_steps=100) as cut:
        rollouts(short, normaliser, cut, [5.0], 1)
    with opened("CartPole-v1", 1) as environments, pytest.raises(ValueError, match="target_return = nan must be"):
        rollouts(model, normaliser, environments, [float("nan")], 1)


def outcome(target, *returns):
    values = np.array(returns, np.float64)
    return Outcome(target, Episodes(values, np.arange(1, 1 + len(values)), values > 2))


def test_figures_say_what_was_reached():
    found = Rollouts((outcome(1.0, 1, 2, 3), outcome(9.0, 4, 8, 6)), seconds=2.0)
    assert found.rank_correlation() == pytest.approx(0.878, abs=1e-3)
    numbers = figures(found, {1.0: "median", 9.0: ""}, reference=(1.0, 11.0))
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    low, high = numbers["targets"]
    assert (low["target"], low["name"], high["name"]) == (1.0, "median", "")
    assert low["return"] == {"mean": 2, "std": pytest.approx(np.std([1, 2, 3])), "min": 1, "max": 3}
    assert high["score"]["mean"] == pytest.approx(50)
    assert (low["length"], low["cut_off"], numbers["steps_per_second"]) == (2, pytest.approx(2 / 3), 6)
    rows = table(numbers).splitlines()
    assert rows[0].split() == ["asked", "for", "reached", "from", "to", "steps", "cut", "off", "score"]
    assert rows[1].split() == ["1", "median", "2", "±", "0.8165", "1", "3", "2", "67%", "10"]
    assert len(set(map(len, rows))) == 1
    assert "score" not in table(figures(found, {}, None))


def test_numbers_keep_their_digits():
    shown = [number(value) for value in (0, 0.91, -0.0123456, 9.0, 12.3456, 100.0, 500, -200.25, 1234.5, 1e6)]
    assert shown == ["0", "0.91", "-0.01235", "9", "12.35", "100", "500", "-200.2", "1,234.5", "1,000,000"]


def test_targets_come_from_the_data_each_once_with_its_names():
    options = RolloutConfig()
    assert choose_targets(options, True, [0.0] * 80 + [500.0] * 21) == {
        0.0: "median",
        500.0: "90 %, max",
        600.0: "max + 20 %",
    }
    assert choose_targets(RolloutConfig(target_return=(3.0, 4.0)), True, [1.0]) == {3.0: "", 4.0: ""}
    assert choose_targets(options, False, [1.0]) == {}
    with pytest.raises(ValueError, match="--target-return has no effect: the model is told no return"):
        choose_targets(RolloutConfig(target_return=(3.0,)), False, [1.0])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--target-return", "3", "much"], "--target-return: invalid float value: 'much'"),
        (["--target-return", "3", "nan"], "target_return = nan must be a finite number"),
        (["--episodes", "0"], "episodes = 0 must be above 0"),
        (["--temperature", "-1"], "temperature = -1.0 must be at least 0"),
        (["--video-format", "gif"], "--video-format has no effect: --video names no folder"),
        (["--target", "3"], "did you mean --target-return?"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(words, complaint):
    with pytest.raises(ValueError, match=r".") as refused:
        parse_fields(RolloutConfig(), words)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_several_targets_are_given_at_once():
    options = parse_fields(RolloutConfig(), ["--target-return", "-3.5", "400", "--episodes", "2"])
    assert options.target_return == (-3.5, 400.0)


def summary_of(model, environment=PAINTED):
    return Summary(
        environment=environment,
        observation_space=model.config.observation_space,
        action_space=model.config.action_space,
        normaliser=unscaled(model.config.observation_space),
        reference=None,
        episodes=1,
        steps=1,
        longest=9,
        returns=tuple(np.linspace(0, 9, 101).tolist()),
        fingerprint="",
    )


def test_a_report_has_a_table_a_picture_and_films(tmp_path, capsys):
    model, _ = agent_for(PAINTED)
    options = RolloutConfig(target_return=(0.91, 0.94), episodes=3, video=tmp_path / "films")
    numbers = report(model, summary_of(model), options, tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert "the data: median 4.5, 90 % 8.1, best 9" in said
    assert [path.name for path in sorted((tmp_path / "films").iterdir())] == ["target-0.91.gif", "target-0.94.gif"]
    assert numbers["films"] == [str(tmp_path / "films" / f"target-{n}.gif") for n in (0.91, 0.94)]
    with Image.open(numbers["picture"]) as picture:
        assert picture.size[0] > 600
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    assert [line for line in said if line.endswith((".png", ".gif"))] == [numbers["picture"], *numbers["films"]]


@pytest.mark.parametrize(("folder", "video"), [(".", "film.gif/films"), (".", "film.gif"), ("/proc", "films")])
def test_a_place_that_cannot_be_written_is_found_before_the_first_step(folder, video, tmp_path, monkeypatch):
    (tmp_path / "film.gif").touch()
    monkeypatch.setattr(Painted, "step", None)
    model, _ = agent_for(PAINTED)
    with pytest.raises(ValueError, match="nothing can be written to "):
        report(model, summary_of(model), RolloutConfig(video=tmp_path / video), tmp_path / folder)
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]


def test_the_environment_that_is_filmed_is_closed_when_acting_fails(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(Painted, "close", lambda self: closed.append(self.render_mode))
    model, _ = agent_for(PAINTED, timesteps="embedded", max_timestep=5, core=agent().config.core)
    with pytest.raises(ValueError, match="episodes of Painted-v0 last up to 9 steps"):
        report(model, summary_of(model), RolloutConfig(video=tmp_path / "films"), tmp_path)
    assert "rgb_array" in closed


def test_a_film_shows_the_first_the_last_and_the_steps_between_at_a_fair_pace(tmp_path):
    environment = make_filmed(PAINTED)
    model, normaliser = agent_for(PAINTED)
    seed = next(s for s in range(99) if make(PAINTED).reset(seed=s)[0][1] == 7)
    play([environment], [seed], Actors(model, normaliser, [3.0]))
    assert [int(frame[0, 0, 0]) for frame in environment.frames] == [0, 20, 40, 60, 70]  # 50 steps a second, halved
    write_film(environment.frames, environment.pace, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.n_frames, film.size, film.info["duration"]) == (5, (30, 20), 40)


RUNNING_AWAY = """
import numpy
from decision.environments.video import make_filmed
film = make_filmed("Hopper-v5")
film.reset(seed=0)
film.unwrapped.data.qpos[0] += 20.0  # metres
for _ in range(film.stride):
    film.step(numpy.zeros(3, numpy.float32))
before, after = (frame.astype(int) for frame in film.frames)
print(*((frame[..., 0] - frame[..., 2] > 30).sum() for frame in (before, after)))
"""
"""Prints how many pixels of two frames are orange: the robot's, in front of a floor and a sky that are none."""


def test_a_robot_that_runs_away_is_followed():
    """In a process of its own, since OpenGL and a compiler may bring the same library in two versions."""
    pytest.importorskip("mujoco")
    done = subprocess.run([sys.executable, "-c", RUNNING_AWAY], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be rendered here: {done.stderr.strip().splitlines()[-1:]}")
    assert min(map(int, done.stdout.split())) > 1000


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have a screen")
def test_films_without_a_screen_are_made_in_silence():
    words = "from decision.environments.video import make_filmed; make_filmed('CartPole-v1').reset(seed=0)"
    bare = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "XDG_RUNTIME_DIR")}
    done = subprocess.run([sys.executable, "-c", words], env=bare, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_films_that_cannot_be_made_are_refused_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ValueError, match="pictures of CartPole-v1 need a package: pip install .*classic-control"):
        make_filmed("CartPole-v1").reset(seed=0)
    with pytest.raises(ValueError, match="CartPole-v1 gives no pictures to film"):
        Filmed(make("CartPole-v1")).reset(seed=0)
    with pytest.raises(ValueError, match="Corridor-v0 gives no pictures to film: NotImplementedError"):
        make_filmed(corridor.ID).reset(seed=0)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match="video_format = 'mp4' needs a package: pip install imageio-ffmpeg"):
        check_format("mp4")
