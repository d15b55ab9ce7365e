"""Windows in proportion to length, the same for any number of processes; statistics; targets and scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.files.serialize import from_dict, to_dict
from decision.data.load import (
    Normaliser,
    Summary,
    Trajectories,
    Windows,
    default_targets,
    fingerprint,
    load_data,
    normalised,
    reference_scores,
)
from decision.environments.spaces import Space
from decision.models.tokens import Window, returns_to_go
from tests.decision.examples import CHOICE, CHOICES, PICTURE, PIXELS, PUSH, VECTOR, same, trajectories

LENGTHS = [5, 1, 12, 3, 40]


def windows(data: Trajectories, context: int = 4, batch_size: int = 12, seed: int = 0) -> Windows:
    return Windows(data, Normaliser.of(data), context, batch_size, seed)


def starts_of(data: Trajectories, batch: Window) -> list[int]:
    """The step of the data that each row begins with, found by its observation."""
    scaled = Normaliser.of(data).observations(torch.from_numpy(data.observations))
    first = batch.observations[torch.arange(len(batch.pads)), batch.pads]
    return [int((scaled == row).all(1).nonzero().item()) for row in first]


# ---------------------------------------------------------------------------------------------- windows


def test_a_window_is_a_piece_of_an_episode_behind_its_padding() -> None:
    data = trajectories(LENGTHS)
    (batch,) = windows(data, context=4, batch_size=data.steps).batch(0)
    scale = Normaliser.of(data)
    togo = returns_to_go(data.rewards, data.offsets)
    for row, start in enumerate(starts_of(data, batch)):
        episode = np.searchsorted(data.offsets, start, side="right") - 1
        begin = int(data.offsets[episode])
        stop = min(start + 4, int(data.offsets[episode + 1]))
        pad = int(batch.pads[row])
        assert pad == 4 - (stop - start)
        raw = torch.from_numpy(data.observations[start:stop])
        assert torch.equal(batch.observations[row, pad:], scale.observations(raw))
        assert batch.actions[row, pad:].tolist() == data.actions[start:stop].tolist()
        expected = torch.from_numpy(togo[start:stop]) / scale.return_scale
        assert torch.allclose(batch.returns[row, pad:, 0], expected.float())
        assert batch.timesteps[row, pad:].tolist() == list(range(start - begin, stop - begin))
        assert all(not part[row, :pad].any() for part in batch[:4])


@pytest.mark.parametrize(("observed", "acted"), [(VECTOR, PUSH), (PICTURE, CHOICES), (CHOICE, CHOICE)], ids=str)
def test_every_space_keeps_its_type_and_shape(observed: object, acted: object) -> None:
    data = trajectories([3, 9], observed, acted)  # type: ignore[arg-type]
    (batch,) = windows(data, context=6, batch_size=5).batch(0)
    assert isinstance(batch, Window)
    assert batch.observations.shape == (5, 6, *data.observation_space.shape)
    assert batch.actions.shape == (5, 6, *data.action_space.shape)
    assert batch.returns.shape == (5, 6, 1)
    assert batch.timesteps.shape == (5, 6)
    kinds = (torch.float32, torch.from_numpy(data.observations).dtype, torch.from_numpy(data.actions).dtype)
    assert tuple(part.dtype for part in batch) == (*kinds, torch.int64, torch.int64)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 9), st.integers(1, 7), st.integers(0, 3))
def test_every_step_begins_one_window_an_epoch(lengths: list[int], context: int, batch_size: int, seed: int) -> None:
    data = trajectories(lengths)
    source = windows(data, context, batch_size, seed)
    steps = -(-2 * data.steps // batch_size)
    starts = [start for step in range(steps) for start in starts_of(data, source.batch(step)[0])]
    for epoch in (0, 1):
        assert sorted(starts[epoch * data.steps : (epoch + 1) * data.steps]) == list(range(data.steps))


def test_episodes_are_met_in_proportion_to_their_length() -> None:
    """Also within an epoch: the first quarter of it meets each episode by its share (chi-square, 4 degrees)."""
    data = trajectories([50, 10, 120, 30, 400])
    observed = np.zeros(5)
    for seed in range(8):
        (batch,) = windows(data, batch_size=data.steps // 4, seed=seed).batch(0)
        episodes = np.searchsorted(data.offsets, starts_of(data, batch), side="right") - 1
        observed += np.bincount(episodes, minlength=5)
    expected = observed.sum() * data.lengths() / data.steps
    assert ((observed - expected) ** 2 / expected).sum() < 13.3  # 1 % of fair draws exceed it


@pytest.mark.parametrize(("world", "accumulate"), [(1, 4), (2, 1), (2, 3), (12, 1), (3, 2)])
def test_any_number_of_processes_sees_the_same_global_batch(world: int, accumulate: int) -> None:
    data = trajectories(LENGTHS)
    source = windows(data, seed=4)
    for step in (0, 4, 5, 100):
        alone = starts_of(data, source.batch(step)[0])
        shares = [micro for rank in range(world) for micro in source.batch(step, rank, world, accumulate)]
        assert len(shares) == world * accumulate
        assert sorted(start for micro in shares for start in starts_of(data, micro)) == sorted(alone)


def test_a_step_does_not_depend_on_the_steps_before_it() -> None:
    data = trajectories(LENGTHS)
    source, fresh = windows(data, seed=4), windows(data, seed=4)
    forwards = [source.batch(step)[0] for step in range(12)]
    for step in reversed(range(12)):
        assert all(map(torch.equal, fresh.batch(step)[0], forwards[step]))
    assert not torch.equal(windows(data, seed=5).batch(0)[0].observations, forwards[0].observations)


def test_bad_windows_are_refused() -> None:
    data = trajectories([3])
    for name in ("context", "batch_size"):
        with pytest.raises(ValueError, match=f"^{name} must be at least 1, got 0"):
            Windows(data, Normaliser(), **({"context": 2, "batch_size": 2} | {name: 0}))
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of 5 \(5 processes x 1 micro-batches\)"):
        windows(data).batch(0, 0, 5)


# ---------------------------------------------------------------------------------------------- statistics


def test_normalised_observations_have_mean_0_and_deviation_1() -> None:
    data = trajectories([300, 700])
    shifted = replace(data, observations=data.observations * [2.0, 300.0, 1.0] + [0.0, 1e4, 5.0])
    scaled = Normaliser.of(shifted).observations(torch.from_numpy(shifted.observations)).double()
    assert torch.allclose(scaled.mean(0), torch.zeros(3).double(), atol=1e-3)
    assert torch.allclose(scaled.std(0, correction=0), torch.ones(3).double(), atol=1e-4)


@pytest.mark.parametrize("space", [PIXELS, replace(PIXELS, shape=(128,))], ids=str)
def test_bytes_that_are_no_image_are_numbers(space: Space) -> None:
    data = trajectories([60, 40], space)
    scaled = Normaliser.of(data).observations(torch.from_numpy(data.observations))
    assert scaled.dtype == torch.float32
    assert torch.allclose(scaled.mean(0), torch.zeros(space.shape), atol=1e-4)
    assert torch.allclose(scaled.std(0, correction=0), torch.ones(space.shape), atol=1e-4)


def test_a_number_that_never_changes_is_centred_and_not_blown_up() -> None:
    data = trajectories([30])
    flat = replace(data, observations=np.where([True, True, False], data.observations, np.float32(0.1)))
    normaliser = Normaliser.of(flat)
    seen = torch.tensor([0.0, 0.0, 0.2])
    assert normaliser.observations(seen)[2].item() == pytest.approx(0.1, abs=1e-6)


def test_images_and_choices_stay_as_they_are() -> None:
    for space in (PICTURE, CHOICE, CHOICES):
        data = trajectories([4], space)
        raw = torch.from_numpy(data.observations)
        assert torch.equal(Normaliser.of(data).observations(raw), raw)


def test_scaled_returns_to_go_lie_between_minus_one_and_one() -> None:
    for sign in (1, -1):
        data = trajectories([30, 10])
        data = replace(data, rewards=sign * np.abs(data.rewards))
        togo = torch.from_numpy(returns_to_go(data.rewards, data.offsets))
        scaled = Normaliser.of(data).returns(togo)
        assert scaled.abs().max().item() == pytest.approx(1)
        assert scaled.dtype == torch.float32
    nothing = replace(data, rewards=np.zeros(40))
    assert Normaliser.of(nothing).return_scale == 1.0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"mean": (1.0,)}, "must be as many numbers, std above 0"),
        ({"mean": (1.0,), "std": (0.0,)}, "must be as many numbers, std above 0"),
        ({"return_scale": 0.0}, "return_scale = 0.0 must be above 0"),
    ],
)
def test_bad_statistics_are_refused(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Normaliser(**fields)  # type: ignore[arg-type]


def test_a_summary_survives_json_and_normalises_alike() -> None:
    data = trajectories([30, 10, 6], reference=(1.0, 2.0))
    summary = Summary.of(data)
    again = from_dict(Summary, json.loads(json.dumps(to_dict(summary))))
    assert again == summary
    assert (summary.episodes, summary.steps, summary.longest, summary.reference) == (3, 46, 30, (1.0, 2.0))
    raw = torch.from_numpy(data.observations)
    assert torch.equal(again.normaliser.observations(raw), Normaliser.of(data).observations(raw))
    from_percentiles = default_targets(np.array(summary.returns))
    assert from_percentiles == default_targets(data.returns())


def test_a_fingerprint_knows_the_data_again() -> None:
    data = trajectories([3, 4])
    assert fingerprint(data) == fingerprint(trajectories([3, 4], provenance={"seed": 1}))
    for other in (trajectories([3, 4], seed=1), trajectories([4, 3]), trajectories([3, 4], environment="Other-v0")):
        assert fingerprint(other) != fingerprint(data)


# ---------------------------------------------------------------------------------------------- targets, scores


def test_targets_are_taken_from_the_data() -> None:
    targets = default_targets(np.arange(101.0))
    assert targets == {"median": 50, "90 %": 90, "max": 100, "max + 20 %": 120}
    assert default_targets(np.array([-200.0, -100.0]))["max + 20 %"] == -80  # more is asked for, not less


def test_scores_are_those_of_d4rl() -> None:
    for environment in ("Hopper-v5", "Hopper-v2", "hopper"):
        assert reference_scores(environment) == (-20.272305, 3234.3)
    assert reference_scores("HalfCheetah-v4") == (-280.178953, 12135.0)
    assert reference_scores("Walker2d-v5") == (1.629008, 4592.3)
    for environment in ("CartPole-v1", "", "somewhere/Hopper-v5", "hopper_hops:Hopper-v5"):
        assert reference_scores(environment) is None
    assert normalised(np.array([-20.272305, 3234.3]), (-20.272305, 3234.3)).tolist() == [0, 100]
    hopper = trajectories([3], environment="Hopper-v5", reference=(0.0, 1.0))
    assert Summary.of(hopper).reference == reference_scores("Hopper-v5")


# ---------------------------------------------------------------------------------------------- names


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
