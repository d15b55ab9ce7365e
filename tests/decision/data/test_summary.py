"""What a run remembers of its data: percentiles, targets, scores."""

from __future__ import annotations

import json

import numpy as np
import torch

from core.files.serialize import from_dict, to_dict
from decision.data.normaliser import Normaliser
from decision.data.summary import Summary, default_targets, normalised, reference_scores
from tests.decision.examples import trajectories


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
