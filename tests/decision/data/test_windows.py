"""Windows: in proportion to the length of episodes, the same for any number of processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decision.data.store import Trajectories
from decision.data.summary import Normaliser
from decision.data.windows import Window, WindowOrder
from tests.decision.examples import CHOICE, CHOICES, PICTURE, PUSH, VECTOR, trajectories

LENGTHS = [5, 1, 12, 3, 40]


def windows(data: Trajectories, context: int = 4, batch_size: int = 12, seed: int = 0) -> WindowOrder:
    return WindowOrder(data, Normaliser.of(data), context, batch_size, seed)


def starts_of(data: Trajectories, batch: Window) -> list[int]:
    """The step of the data that each row begins with, found by its observation."""
    scaled = Normaliser.of(data).observations(torch.from_numpy(data.observations))
    return [int((scaled == row).all(1).nonzero().item()) for row in batch.observations[:, 0]]


def test_a_window_is_a_piece_of_an_episode_before_its_padding() -> None:
    data = trajectories(LENGTHS)
    (batch,) = windows(data, context=4, batch_size=data.steps).batch(0)
    scale = Normaliser.of(data)
    togo = data.returns_to_go()
    for row, start in enumerate(starts_of(data, batch)):
        episode = np.searchsorted(data.offsets, start, side="right") - 1
        begin = int(data.offsets[episode])
        stop = min(start + 4, int(data.offsets[episode + 1]))
        length = int(batch.lengths[row])
        assert length == stop - start
        raw = torch.from_numpy(data.observations[start:stop])
        assert torch.equal(batch.observations[row, :length], scale.observations(raw))
        assert batch.actions[row, :length].tolist() == data.actions[start:stop].tolist()
        expected = torch.from_numpy(togo[start:stop]) / scale.return_scale
        assert torch.allclose(batch.returns[row, :length, 0], expected.float())
        assert batch.timesteps[row, :length].tolist() == list(range(start - begin, stop - begin))
        assert all(not part[row, length:].any() for part in batch[:4])


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
        with pytest.raises(ValueError, match=f"{name} = 0"):
            WindowOrder(data, Normaliser(), **({"context": 2, "batch_size": 2} | {name: 0}))
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of 5 \(5 processes x 1 micro-batches\)"):
        windows(data).batch(0, 0, 5)
