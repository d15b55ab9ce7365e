"""Statistics of observations and returns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from decision.data.normaliser import Normaliser
from decision.environments.spaces import Space
from tests.decision.examples import CHOICE, CHOICES, PICTURE, PIXELS, trajectories


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
        togo = torch.from_numpy(data.returns_to_go())
        scaled = Normaliser.of(data).returns(togo)
        assert scaled.abs().max().item() == pytest.approx(1)
        assert scaled.dtype == torch.float32
    nothing = replace(data, rewards=np.zeros(40))
    assert Normaliser.of(nothing).return_scale == 1.0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"mean": (1.0,)}, "must be equally many, std above 0"),
        ({"mean": (1.0,), "std": (0.0,)}, "must be equally many, std above 0"),
        ({"return_scale": 0.0}, "return_scale = 0.0 must be above 0"),
    ],
)
def test_bad_statistics_are_refused(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Normaliser(**fields)  # type: ignore[arg-type]
