"""Minari and D4RL: read, written, and refused in one line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from decision.data.sources import load_data, read_minari, write_minari
from decision.environments.settings import settings_of
from decision.environments.spaces import Space, describe
from tests.decision.examples import CHOICE, CHOICES, PIXELS, PUSH, VECTOR, same, trajectories

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:minari")
CARTPOLE = {
    "environment": "CartPole-v1",
    "observed": describe(gymnasium.make("CartPole-v1").observation_space),
    "settings": settings_of(gymnasium.spec("CartPole-v1")),
}


@pytest.fixture
def minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, its data sets in a folder of their own."""
    library = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return library


@pytest.fixture
def h5py() -> Any:
    return pytest.importorskip("h5py")


# ---------------------------------------------------------------------------------------------- Minari


@pytest.mark.parametrize(("observed", "acted"), [(VECTOR, PUSH), (PIXELS, CHOICES), (CHOICE, CHOICE)], ids=str)
def test_minari_gives_back_what_was_written(minari: Any, observed: Space, acted: Space) -> None:
    data = trajectories([5, 1, 8], observed, acted, environment="", reference=(-1.5, 20.0))
    write_minari(data, "example/mixed-v0")
    assert same(read_minari("example/mixed-v0"), data)


def test_minari_keeps_the_environment_and_the_provenance(minari: Any) -> None:
    data = trajectories([5, 8], **CARTPOLE, provenance={"policy": "ppo", "seed": 4})
    write_minari(data, "cartpole/some-v3")
    again = load_data("minari:cartpole/some-v3")
    assert same(again, data)
    assert again.provenance["source"] == "minari:cartpole/some-v3"
    assert again.provenance["description"] == '{"policy": "ppo", "seed": 4}'
    environment = minari.load_dataset("cartpole/some-v3").recover_environment()
    assert environment.spec.id == "CartPole-v1"


def test_what_minari_itself_collects_is_read(minari: Any) -> None:
    """Steps, ends and final observations as the environment gave them, dictionaries flattened."""
    pytest.importorskip("jax")
    inner = gymnasium.make("CartPole-v1", max_episode_steps=12)
    space = gymnasium.spaces.Dict({"b": inner.observation_space, "a": gymnasium.spaces.Discrete(3)})
    nested = gymnasium.wrappers.TransformObservation(inner, lambda seen: {"b": seen, "a": 1}, space)
    recorded: list[Any] = []
    with minari.DataCollector(nested) as environment:
        environment.action_space.seed(1)
        for seed in range(6):
            recorded.append([environment.reset(seed=seed)[0]])
            done = False
            while not done:
                seen, _, terminated, truncated, _ = environment.step(environment.action_space.sample())
                recorded[-1].append(seen)
                done = terminated or truncated
        environment.create_dataset("cartpole/nested-v0")
    data = read_minari("cartpole/nested-v0")
    assert data.observation_space == describe(space)
    assert data.lengths().tolist() == [len(episode) - 1 for episode in recorded]
    assert data.truncated[data.offsets[1:] - 1].tolist() == (data.lengths() == 12).tolist()
    for episode, seen in zip(data, recorded, strict=True):
        flat = np.stack([gymnasium.spaces.flatten(space, value) for value in seen])
        assert np.array_equal(episode.observations, flat[:-1])
        assert np.array_equal(episode.final_observation, flat[-1])


def test_an_end_without_a_reason_is_truncated_and_one_inside_an_episode_refused(minari: Any) -> None:
    steps = {"observations": np.zeros((4, 3), np.float32), "actions": np.zeros(3, np.int64), "rewards": [0.0] * 3}
    for name, terminations in (("open", [False] * 3), ("early", [True, False, True])):
        buffer = minari.data_collector.EpisodeBuffer(
            id=0, **steps, terminations=terminations, truncations=[False] * 3, infos={}
        )
        spaces = {"observation_space": VECTOR.gym(), "action_space": CHOICE.gym()}
        minari.create_dataset_from_buffers(f"{name}-v0", [buffer], **spaces)
    assert read_minari("open-v0").truncated.tolist() == [False, False, True]
    with pytest.raises(ValueError, match="^minari:early-v0: step 0 of episode 0 is terminated but not the last"):
        read_minari("early-v0")


def test_actions_that_are_not_one_array_are_refused(minari: Any) -> None:
    steps = {"observations": np.zeros((2, 3), np.float32), "actions": {"a": np.zeros(1, np.int64)}, "rewards": [0.0]}
    buffer = minari.data_collector.EpisodeBuffer(id=0, **steps, terminations=[True], truncations=[False], infos={})
    spaces = {"observation_space": VECTOR.gym(), "action_space": gymnasium.spaces.Dict(a=CHOICE.gym())}
    minari.create_dataset_from_buffers("nested-v0", [buffer], **spaces)
    with pytest.raises(ValueError, match="^minari:nested-v0: a space Dict is neither a Box nor made of choices"):
        read_minari("nested-v0")


def test_minari_names_are_checked(minari: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("socket.socket", None)  # no network
    with pytest.raises(ValueError, match=r"^minari:nothing-v0 cannot be loaded: "):
        load_data("minari:nothing-v0")
    data = trajectories([3], environment="")
    for use in (read_minari, lambda name: write_minari(data, name)):
        with pytest.raises(ValueError, match="^minari:nothing has no version, as minari:NAME-v0 has$"):
            use("nothing")
    write_minari(data, "taken-v0")
    with pytest.raises(ValueError, match="^minari:taken-v0 exists already, at "):
        write_minari(data, "taken-v0")
    with pytest.raises(ValueError, match="environment 'Nowhere-v0' is not registered: "):
        write_minari(replace(data, environment="Nowhere-v0"), "other-v0")
    with pytest.raises(ValueError, match="observation in which each episode ends"):
        write_minari(replace(data, final_observations=None), "other-v0")
    assert [path.name for path in (tmp_path / "minari").iterdir()] == ["taken-v0"]


def test_libraries_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ValueError, match=r"needs the library minari, .*: pip install 'minari\[hdf5\]'"):
        load_data("minari:mujoco/hopper/medium-v0")
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "hopper.hdf5").touch()
    with pytest.raises(ValueError, match="needs the library h5py, .*: pip install 'h5py'"):
        load_data(tmp_path / "hopper.hdf5")


# ---------------------------------------------------------------------------------------------- D4RL


def written(path: Path, h5py: Any, **changed: Any) -> dict[str, np.ndarray[Any, Any]]:
    """A file of 20 steps laid out as D4RL's: an end at step 6, time limits at 11 and 16, a rest of 3 steps."""
    rng = np.random.default_rng(0)
    steps = np.arange(20)
    seen = rng.normal(size=(21, 11)).astype(np.float32)
    arrays = {
        "observations": seen[:-1],
        "next_observations": seen[1:],
        "actions": rng.uniform(-1, 1, (20, 3)).astype(np.float32),
        "rewards": rng.normal(size=20).astype(np.float32),
        "terminals": steps == 6,
        "timeouts": np.isin(steps, (11, 16)),
    } | changed
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
        file["metadata/algorithm"] = "SAC"
    return arrays


def test_a_d4rl_file_is_read(tmp_path: Path, h5py: Any) -> None:
    arrays = written(tmp_path / "hopper_medium-v2.hdf5", h5py)
    data = load_data(tmp_path / "hopper_medium-v2.hdf5")
    assert data.environment == "Hopper-v4"
    assert data.lengths().tolist() == [7, 5, 5]
    assert [(e.terminated, e.truncated) for e in data] == [(True, False), (False, True), (False, True)]
    for name in ("observations", "actions", "rewards"):
        assert np.array_equal(getattr(data, name), arrays[name][:17])
    assert np.array_equal(data.final_observations, arrays["next_observations"][[6, 11, 16]])
    assert data.action_space.bounds()[1].tolist() == [1, 1, 1]
    assert data.provenance == {"source": "hopper_medium-v2.hdf5", "left_out_steps": 3}


def test_a_d4rl_file_of_any_environment_and_without_next_observations_is_read(tmp_path: Path, h5py: Any) -> None:
    written(tmp_path / "pen-cloned.hdf5", h5py, next_observations=None)
    data = load_data(tmp_path / "pen-cloned.hdf5")
    assert data.environment == ""
    assert data.final_observations is None


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"timeouts": None, "terminals": None}, "it has no array that says where episodes end"),
        ({"actions": None}, "it has no 'actions'"),
        ({"terminals": np.zeros(20, bool), "timeouts": np.zeros(20, bool)}, "has no finished episode"),
        ({"rewards": np.full(20, np.nan, np.float32)}, "rewards: step 0 of episode 0 has nan"),
        ({"actions": np.zeros((9, 3), np.float32)}, r"actions have shape \(9, 3\) instead of \(17, 3\)"),
    ],
)
def test_bad_d4rl_files_are_refused(tmp_path: Path, h5py: Any, changed: dict[str, Any], sentence: str) -> None:
    written(tmp_path / "hopper.hdf5", h5py, **changed)
    with pytest.raises(ValueError, match=f"hopper.hdf5.*{sentence}"):
        load_data(tmp_path / "hopper.hdf5")


@pytest.mark.parametrize("part", [0, 0.02, 0.5, 0.95])
def test_a_cut_d4rl_file_is_refused(tmp_path: Path, h5py: Any, part: float) -> None:
    path = tmp_path / "hopper.hdf5"
    written(path, h5py)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match="hopper.hdf5 is cut short or damaged"):
        load_data(path)


def test_a_file_is_found_as_a_path_and_under_the_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = trajectories([3, 4])
    data.save(tmp_path / "local" / "data.npz")
    assert same(load_data(tmp_path / "local" / "data.npz"), data)
    assert same(load_data("local/data.npz", root=tmp_path), data)
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path))
    assert same(load_data("local/data.npz"), data)


@pytest.mark.parametrize("name", ["nothing.npz", "nothing.hdf5", ""])
def test_data_that_is_not_there_is_refused_with_what_is_accepted(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"^there is no data '{name}'; accepted are: a file that decision.collect"):
        load_data(name, root=tmp_path)
