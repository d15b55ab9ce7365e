"""Trajectories: what they refuse, their file, and what is made of them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from decision.data.store import Trajectories, concatenate, stack
from decision.environments.spaces import Space
from tests.decision.examples import CHOICE, CHOICES, PIXELS, PUSH, VECTOR, same, trajectories

SPACES = [(VECTOR, CHOICE), (VECTOR, PUSH), (PIXELS, CHOICES), (CHOICE, CHOICE), (CHOICES, PUSH)]


# ---------------------------------------------------------------------------------------------- in memory


def test_episodes_are_told_apart() -> None:
    data = trajectories([4, 1, 7], VECTOR, PUSH)
    assert (data.steps, len(data), data.lengths().tolist()) == (12, 3, [4, 1, 7])
    assert [len(episode.rewards) for episode in data] == [4, 1, 7]
    ends = [(episode.terminated, episode.truncated) for episode in data]
    assert ends == [(True, False), (False, True), (False, True)]
    returns = [float(episode.rewards.astype(np.float64).sum()) for episode in data]
    assert data.returns() == pytest.approx(returns, rel=1e-12)
    with pytest.raises(IndexError):
        data[3]
    assert np.array_equal(data[-1].observations, data[2].observations)


@pytest.mark.parametrize(("observed", "acted"), SPACES, ids=str)
def test_numbers_are_kept_in_one_type_each(observed: Space, acted: Space) -> None:
    data = trajectories([2, 3], observed, acted)
    wide = replace(data, rewards=data.rewards.astype(np.float64), offsets=[0, 2, 5])
    assert same(data, wide)
    assert (data.observations.dtype, data.actions.dtype) == (observed.stored, acted.stored)
    assert data.rewards.dtype == np.float32


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.floats(0.1, 100))
def test_the_top_are_the_best_episodes_that_fit_the_share_of_steps(lengths: list[int], percent: float) -> None:
    data = trajectories(lengths, seed=len(lengths))
    best = data.top(percent)
    assert best.steps <= percent / 100 * data.steps or len(best) == 1
    worst_in = best.returns().min()
    left_out = np.setdiff1d(data.returns(), best.returns())
    if len(best) < len(data):
        assert (left_out <= worst_in).all()
        following = data.lengths()[data.returns() == left_out.max()][0]
        assert best.steps + following > percent / 100 * data.steps
    assert data.top(100).steps == data.steps


def test_a_share_that_is_none_is_refused() -> None:
    for percent in (0, -1, 101, float("nan")):
        with pytest.raises(ValueError, match=r"percent = .* must be above 0 and at most 100"):
            trajectories([3]).top(percent)


def test_data_sets_of_one_environment_are_joined() -> None:
    one, other = trajectories([2, 3], seed=1), trajectories([4], seed=2, reference=(0.0, 1.0))
    joined = concatenate([one, other], {"joined": 2})
    assert joined.lengths().tolist() == [2, 3, 4]
    assert joined.provenance == {"joined": 2}
    assert joined.reference == (0.0, 1.0)
    assert same(joined.select([0, 1]), replace(one, reference=(0.0, 1.0)))
    assert same(joined.select([2]), other)
    without = concatenate([one, replace(other, final_observations=None)], {})
    assert without.final_observations is None


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"environment": "Other-v0"}, "data set 2 is of 'Other-v0', the first of 'Example-v0'"),
        ({"observed": PIXELS}, r"data set 2 does not fit the first: box \(4, 5, 3\) of uint8, not box \(3,\)"),
        ({"acted": PUSH}, r"data set 2 does not fit the first: box \(2,\) of float32, not discrete"),
    ],
)
def test_data_sets_that_do_not_fit_are_not_joined(other: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        concatenate([trajectories([2]), trajectories([3], **other)], {})


# ---------------------------------------------------------------------------------------------- bad input


def damaged(data: Trajectories, name: str, place: int, value: Any) -> dict[str, Any]:
    array = getattr(data, name).copy()
    array[place] = value
    return {name: array}


@pytest.mark.parametrize(
    ("name", "place", "value", "sentence"),
    [
        ("observations", 5, np.nan, "observations: step 2 of episode 1 has nan, which is not a finite number"),
        ("observations", 0, -np.inf, "observations: step 0 of episode 0 has -inf"),
        ("rewards", 9, np.nan, "rewards: step 6 of episode 1 has nan"),
        ("final_observations", 1, np.inf, "final_observations: episode 1 has a number that is not finite"),
        ("actions", 4, 2, r"actions: \[2\] at step 1 of episode 1 is not in discrete \(2,\)"),
        ("actions", 3, -1, r"actions: \[-1\] at step 0 of episode 1 is not in discrete"),
        ("truncated", 1, True, "step 1 of episode 0 is not the last but terminated or truncated"),
        ("truncated", 2, False, "step 2 of episode 0 is the last but neither terminated or truncated"),
    ],
)
def test_bad_numbers_are_named_with_their_place(name: str, place: int, value: Any, sentence: str) -> None:
    data = trajectories([3, 7])
    with pytest.raises(ValueError, match=f"^{sentence}"):
        replace(data, **damaged(data, name, place, value))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"offsets": [0]}, "there is no episode"),
        ({"offsets": [0, 3, 3, 10]}, "offsets must rise from 0, each episode having at least one step"),
        ({"offsets": [1, 10]}, "offsets must rise from 0"),
        ({"offsets": [0, 3, 11]}, r"observations have shape \(10, 3\) instead of \(11, 3\)"),
        ({"rewards": np.zeros(9, np.float32)}, r"rewards have shape \(9,\) instead of \(10,\)"),
        ({"actions": np.zeros(10)}, "actions of type float64 cannot be stored as int64"),
        (
            {"actions": np.full(10, 2**63, np.uint64)},
            "actions have 9223372036854775808, which cannot be stored as int64",
        ),
        ({"observations": np.full((10, 3), 1e300)}, "step 0 of episode 0 has inf"),
        ({"reference": (1.0, 1.0)}, r"reference = \(1.0, 1.0\) must be two different finite numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(trajectories([3, 7]), **changed)


def test_no_episodes_are_no_data() -> None:
    with pytest.raises(ValueError, match="there is no episode"):
        stack([], environment="", observation_space=VECTOR, action_space=CHOICE)


def test_bytes_do_not_wrap_around() -> None:
    data = trajectories([3], PIXELS)
    with pytest.raises(ValueError, match="observations have 300, which cannot be stored as uint8"):
        replace(data, observations=np.full((3, 4, 5, 3), 300, np.uint16))


# ---------------------------------------------------------------------------------------------- on disk


@pytest.mark.parametrize(("observed", "acted"), SPACES, ids=str)
def test_a_file_gives_back_what_was_saved(tmp_path: Path, observed: Space, acted: Space) -> None:
    metadata: dict[str, Any] = {"provenance": {"policy": "random", "seed": 3}, "reference": (-1.5, 2.5)}
    data = trajectories([3, 1, 6], observed, acted, **metadata)
    data.save(tmp_path / "data.npz")
    loaded = Trajectories.load(tmp_path / "data.npz")
    assert same(data, loaded)
    assert loaded.provenance == metadata["provenance"]
    replace(data, final_observations=None).save(tmp_path / "less.npz")
    assert Trajectories.load(tmp_path / "less.npz").final_observations is None


def test_equal_data_makes_equal_files_that_numpy_opens(tmp_path: Path) -> None:
    for name in ("one", "two"):
        trajectories([3, 1, 6]).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with np.load(tmp_path / "one", allow_pickle=False) as arrays:
        assert arrays["offsets"].tolist() == [0, 3, 4, 10]


def test_a_step_of_hopper_takes_its_numbers_and_hardly_more(tmp_path: Path) -> None:
    """11 observed numbers, 3 acted, 1 rewarded: 60 bytes a step before compression, which noise resists."""
    eleven, three = (Space("box", (n,), "float32", low=(None,), high=(None,)) for n in (11, 3))
    trajectories([100] * 50, eleven, three).save(tmp_path / "hopper.npz")
    assert (tmp_path / "hopper.npz").stat().st_size < 5 * 60 * 1024


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    trajectories([30] * 10).save(tmp_path / "data.npz")
    return tmp_path / "data.npz"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="empty is empty$"):
        Trajectories.load(tmp_path / "empty")


def test_what_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Trajectories.load(tmp_path)


@pytest.mark.parametrize("part", [0.01, 0.3, 0.9, 0.999])
def test_a_cut_file_is_refused(saved: Path, part: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match=r"data.npz is cut short or damaged"):
        Trajectories.load(saved)


def test_no_changed_byte_goes_unnoticed(tmp_path: Path) -> None:
    path, data, outcomes = tmp_path / "data.npz", trajectories([3] * 3), []
    data.save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            outcomes.append("same" if same(Trajectories.load(path), data) else "different")
        except ValueError as error:
            outcomes.append("named" if str(error).startswith(str(path)) else "not named")
    assert set(outcomes) == {"same", "named"}  # some bytes, such as dates, mean nothing


def rewritten(path: Path, changes: dict[str, Any]) -> None:
    """The same file with members replaced, or left out (None)."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()} | changes
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)


def test_files_of_another_kind_are_refused(saved: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", observations=np.zeros(3))
    refused = "npz is cut short or damaged, or not a file of trajectories: "
    with pytest.raises(ValueError, match=f"other.{refused}it has no header.json"):
        Trajectories.load(tmp_path / "other.npz")
    rewritten(saved, {"header.json": json.dumps({"format": 99})})
    with pytest.raises(ValueError, match=f"data.{refused}its format is not one of"):
        Trajectories.load(saved)
    rewritten(saved, {"header.json": json.dumps({"format": 1, "environment": "X", "arrays": []})})
    with pytest.raises(ValueError, match=f"data.{refused}'observation_space'"):
        Trajectories.load(saved)


def test_a_missing_part_is_named(saved: Path) -> None:
    rewritten(saved, {"rewards.npy": None})
    with pytest.raises(ValueError, match=r"There is no item named 'rewards.npy' in the archive"):
        Trajectories.load(saved)


def test_a_file_that_would_run_code_is_not_run(saved: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    rewritten(saved, {"rewards.npy": (tmp_path / "evil.npy").read_bytes()})
    with pytest.raises(ValueError, match="Object arrays cannot be loaded when allow_pickle=False"):
        Trajectories.load(saved)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.data())
def test_returns_to_go_are_what_is_still_to_come(lengths, data):
    held = trajectories(lengths)
    rewards = data.draw(arrays(np.float32, held.steps, elements=st.floats(-1e3, 1e3, width=32)))
    togo = replace(held, rewards=rewards).returns_to_go()
    assert togo.dtype == np.float64
    for start, stop in pairwise(held.offsets):
        own, left = rewards[start:stop].astype(np.float64), togo[start:stop]
        assert left[0] == pytest.approx(own.sum(), abs=1e-9)  # R_0 is the full return
        np.testing.assert_allclose(left[1:], left[:-1] - own[:-1], atol=1e-9)  # R_t+1 = R_t - r_t
        assert left[-1] == own[-1]


def test_returns_to_go_end_with_their_episode():
    assert replace(trajectories([3, 1]), rewards=np.array([1, 2, 3, 10])).returns_to_go().tolist() == [6, 5, 3, 10]


def test_a_fingerprint_depends_on_all_that_may_be_learnt() -> None:
    data = trajectories([3, 4])
    assert data.fingerprint() == trajectories([3, 4], provenance={"seed": 1}).fingerprint()
    for other in (trajectories([3, 4], seed=1), trajectories([4, 3]), trajectories([3, 4], environment="Other-v0")):
        assert other.fingerprint() != data.fingerprint()
