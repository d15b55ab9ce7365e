"""What a run remembers of its data: percentiles, targets, scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.files.serialize import from_dict, to_dict
from decision.data.store import Trajectories
from decision.data.summary import Normaliser, Summary, default_targets, normalised, reference_scores
from decision.data.windows import WindowOrder
from decision.environments.spaces import Space
from tests.decision.examples import CHOICE, CHOICES, PICTURE, PIXELS, trajectories


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


def test_pixels_among_other_numbers_are_not_scaled() -> None:
    space = Space("box", (3 + 36 * 36,), "float32", (None,), (None,), pictures=((1, 36, 36),))
    raw = torch.from_numpy(trajectories([9], space).observations)
    scaled = Normaliser.of(trajectories([9], space)).observations(raw)
    assert torch.equal(scaled[:, 1:-2], raw[:, 1:-2])
    assert torch.allclose(scaled[:, [0, -2, -1]].std(0, correction=0), torch.ones(3), atol=1e-4)


@pytest.mark.parametrize("largest", [0.0, 1e5, 1e9, -1.7e10])
def test_numbers_that_float32_would_lose_are_centred_first(largest: float, tmp_path: Path) -> None:
    """Whatever they are counted from, the same numbers come to the model."""
    wide = Space("box", (3,), "float64", (None,), (None,))
    data = trajectories([40, 60])
    moved = data.observations.astype(np.float64) + np.array([0.0, largest, 0.0])
    shifted = replace(data, observations=moved, observation_space=wide, final_observations=None)
    assert (shifted.observations.dtype == np.float64) == (abs(largest) > 1e4)
    shifted.save(tmp_path / "data.npz")
    again = Trajectories.load(tmp_path / "data.npz").select([0, 1])
    normaliser = from_dict(Normaliser, json.loads(json.dumps(to_dict(Normaliser.of(again)))))
    scaled = normaliser.observations(torch.from_numpy(moved))
    assert scaled.dtype == torch.float32
    plain = Normaliser.of(data).observations(torch.from_numpy(data.observations))
    assert torch.allclose(scaled, plain, atol=1e-3)
    one = WindowOrder(again, normaliser, 3, 8).batch(0)[0].observations
    assert torch.allclose(one, WindowOrder(data, Normaliser.of(data), 3, 8).batch(0)[0].observations, atol=1e-3)
