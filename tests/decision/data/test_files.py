"""Trajectories that others saved: lists of episodes, arrays, pickles that nothing is executed of."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from decision.config import TrainConfig
from decision.data.files import from_episodes
from decision.data.sources import load_data
from decision.data.store import Trajectories
from decision.environments.make import make
from decision.tasks.loop import in_spaces_of, prepare
from tests.decision.examples import PUSH, VECTOR, same, trajectories

NAMES = ("observations", "actions", "rewards")


@pytest.fixture
def data() -> Trajectories:
    """Three episodes of pushes: terminated, cut off, terminated."""
    return trajectories([4, 7, 2], VECTOR, PUSH, environment="")


def paths(data: Trajectories, **more: Any) -> list[dict[str, Any]]:
    """A list of episodes as the authors of the Decision Transformer pickle it."""
    return [
        {name: getattr(episode, name) for name in NAMES}
        | {"next_observations": np.concatenate([episode.observations[1:], episode.final_observation[None]])}
        | {"terminals": np.arange(len(episode.rewards)) == len(episode.rewards) - 1 if episode.terminated else
           np.zeros(len(episode.rewards), bool)}
        | more
        for episode in data
    ]  # fmt: skip


def flat(data: Trajectories) -> dict[str, Any]:
    """The same arrays one after another, with ends and the following observations."""
    each = paths(data)
    arrays = {
        name: np.concatenate([path[name] for path in each]) for name in (*NAMES, "next_observations", "terminals")
    }
    return arrays | {"timeouts": data.truncated}


def alike(found: Trajectories, data: Trajectories) -> bool:
    """Whether arrays are the same; the spaces are those that the data spans."""
    spaces = {"observation_space": data.observation_space, "action_space": data.action_space}
    return same(replace(found, environment="", **spaces), data)


def test_a_list_of_dictionaries_is_read(data: Trajectories) -> None:
    found = from_episodes(paths(data))
    assert alike(found, data)
    assert found.action_space.extent == "data"
    assert np.array_equal(found.action_space.bounds()[1], data.actions.max(axis=0))
    longer = [
        {
            "obs": np.concatenate([e.observations, e.final_observation[None]]),
            "acts": e.actions.tolist(),
            "rews": e.rewards,
        }
        | {"done": e.terminated}
        for e in data
    ]
    assert alike(from_episodes(longer), data)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_the_pickles_of_the_authors_are_read(data: Trajectories, tmp_path: Path, protocol: int) -> None:
    (tmp_path / "hopper-medium-v2.pkl").write_bytes(pickle.dumps(paths(data), protocol))
    found = load_data(tmp_path / "hopper-medium-v2.pkl")
    assert alike(found, data)
    assert found.environment == "Hopper-v4"
    assert found.action_space == PUSH
    (tmp_path / "mine.pickle").write_bytes(pickle.dumps(flat(data), protocol))
    assert alike(load_data(tmp_path / "mine.pickle"), data)


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_nothing_in_a_pickle_is_executed(data: Trajectories, tmp_path: Path) -> None:
    held = np.array([Harmful(tmp_path / "run")], dtype=object)
    for number, evil in enumerate((Harmful(tmp_path / "run"), [{"observations": held}], [os.getcwd])):
        (tmp_path / f"{number}.pkl").write_bytes(pickle.dumps(evil))
        with pytest.raises(ValueError, match=rf"{number}.pkl cannot be read: it holds posix\.(system|getcwd); only"):
            load_data(tmp_path / f"{number}.pkl")
    assert not (tmp_path / "run").exists()
    whole = pickle.dumps(paths(data))
    for part in (0, 3, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pkl").write_bytes(whole[:part])
        with pytest.raises(ValueError, match=r"cut\.pkl"):
            load_data(tmp_path / "cut.pkl")


@pytest.mark.parametrize("ends", ["flags", "terminals", "lengths", "episode_starts", "batch"])
def test_arrays_are_read(data: Trajectories, tmp_path: Path, ends: str) -> None:
    arrays = flat(data)
    if ends == "batch":
        data = trajectories([5, 5, 5], VECTOR, PUSH, environment="")
        arrays = {name: x.reshape(3, 5, *x.shape[1:]) for name, x in flat(data).items()}
    elif ends != "flags":
        del arrays["timeouts"]
    if ends in ("lengths", "episode_starts"):
        starts = np.isin(np.arange(data.steps), data.offsets)
        arrays[ends] = data.lengths() if ends == "lengths" else starts
    np.savez(tmp_path / "mine.npz", **arrays)
    assert alike(load_data(tmp_path / "mine.npz"), data)
    np.savez_compressed(tmp_path / "named.npz", **arrays, environment="Somewhere-v0")
    assert load_data(tmp_path / "named.npz").environment == "Somewhere-v0"


@pytest.mark.parametrize("said", ["terminals", "lengths"])
def test_rows_that_fill_up_episodes_are_left_out(tmp_path: Path, said: str) -> None:
    data = trajectories([4, 2, 6], VECTOR, PUSH, environment="")  # all of them terminated
    wide = {name: np.zeros((3, 6, *getattr(data, name).shape[1:])) for name in NAMES}
    wide["terminals"] = np.zeros((3, 6))
    for row, episode in enumerate(data):
        for name in NAMES:
            wide[name][row, : len(episode.rewards)] = getattr(episode, name)
        wide["terminals"][row, len(episode.rewards) - 1] = 1
    if said == "lengths":
        wide["lengths"] = data.lengths()
    np.savez(tmp_path / "mine.npz", **wide)
    found = load_data(tmp_path / "mine.npz")
    assert alike(found, replace(data, final_observations=None))


def test_terminals_alone_end_episodes_at_the_limit_of_the_environment(tmp_path: Path) -> None:
    """As in D4RL's files of version 0, whose time limits are not marked."""
    steps, count = np.arange(3 * 1000 - 300), 3 * 1000 - 300
    arrays = {"observations": np.ones((count, 11), np.float32), "actions": np.zeros((count, 3)), "rewards": steps}
    np.savez(tmp_path / "hopper-old.npz", **arrays, terminals=steps == 499)
    found = load_data(tmp_path / "hopper-old.npz")
    assert found.lengths().tolist() == [500, 1000, 1000]
    assert [episode.terminated for episode in found] == [True, False, False]
    assert found.provenance["left_out_steps"] == 200


def test_whole_numbers_are_choices_and_columns_of_them_too(tmp_path: Path) -> None:
    arrays = {"observations": np.array([[0], [3], [1]]), "actions": np.array([[1], [0], [2]], np.int32)}
    np.savez(tmp_path / "mine.npz", **arrays, rewards=np.ones((3, 1)), dones=[0, 0, 1])
    found = load_data(tmp_path / "mine.npz")
    assert (found.observation_space.kind, found.observation_space.counts) == ("discrete", (4,))
    assert (found.action_space.kind, found.action_space.counts) == ("discrete", (3,))
    assert found.rewards.shape == (3,)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"rewards": None}, "it has no 'rewards' .or reward, rews., but observations, actions"),
        ({"terminals": None, "timeouts": None}, "it has no array that says where episodes end: one of terminals"),
        ({"terminals": np.zeros(13), "timeouts": np.zeros(13)}, "it has no finished episode"),
        ({"actions": np.zeros((5, 2))}, r"actions have shape \(5, 2\) instead of \(13, 2\)"),
        ({"actions": np.array(["left"] * 13)}, "actions of it is not an array of numbers, but of <U4"),
        ({"observations": np.full((13, 3), np.nan)}, "observations: step 0 of episode 0 has nan"),
        ({"lengths": [4, 100]}, "lengths sum up to 104, there are 13 steps"),
        ({"rewards": np.array([None] * 13)}, "holds more than arrays: Object arrays cannot be loaded"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    data: Trajectories, tmp_path: Path, changed: dict[str, Any], sentence: str
) -> None:
    arrays = {name: x for name, x in (flat(data) | changed).items() if x is not None}
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError, match=rf"mine\.npz.*{sentence}"):
        load_data(tmp_path / "mine.npz")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"rewards": [1.0]}, "observations of episode 0 have 4 rows, its rewards 1"),
        ({"terminals": [True, False, True]}, "step 0 of episode 0 is terminal but not the last"),
        ({"observations": {"a": 1}}, "observations of episode 0 is not an array of numbers, but of object"),
    ],
)
def test_episodes_that_do_not_fit_are_refused(data: Trajectories, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        from_episodes(paths(data, **changed))
    for nothing, why in (([], "there is no episode"), ([3], "episode 0 is a int, not a dictionary")):
        with pytest.raises(ValueError, match=why):
            from_episodes(nothing)  # type: ignore[list-item]


def test_spaces_that_only_span_the_data_become_those_of_the_environment(tmp_path: Path) -> None:
    rng, count = np.random.default_rng(0), 40
    arrays = {
        "observations": rng.normal(size=(count, 3)),
        "rewards": np.zeros(count),
        "terminals": np.arange(count) == 39,
    }
    for most, fits in ((1.5, True), (7.0, False)):
        np.savez(tmp_path / "swing.npz", actions=np.clip(rng.normal(size=count) * 9, -most, most), **arrays)
        found = load_data(tmp_path / "swing.npz")
        assert found.action_space.bounds()[1] == most
        assert prepare(TrainConfig(steps=1, data=str(tmp_path / "swing.npz"), eval_episodes=0))[0].steps == count
        pendulum = make("Pendulum-v1")
        if fits:
            assert in_spaces_of(pendulum, found).action_space.bounds()[1] == 2
        else:
            with pytest.raises(ValueError, match="actions from -7 to 7 are not among those of Pendulum-v1, -2 to 2"):
                in_spaces_of(pendulum, found)
    declared = trajectories([3], acted=PUSH)
    assert in_spaces_of(pendulum, declared) is declared
