"""Figures, tables and sentences about targets and returns."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from core.messages import number
from decision.acting.episodes import Episodes, Rollouts, TargetEpisodes
from decision.data.summary import Summary, default_targets
from decision.reports.tables import figures, save_episodes, sentences, share_below, table
from tests.decision import examples


def outcome(target, *returns):
    values = np.array(returns, np.float64)
    return TargetEpisodes(target, Episodes(values, np.arange(1, 1 + len(values)), values > 2))


def summary_of(data, reference=None) -> Summary:
    return replace(Summary.of(data), reference=reference)


def test_figures_say_what_was_reached(tmp_path):
    rollouts = Rollouts((outcome(1.0, 1, 2, 3), outcome(9.5, 4, 8, 6)), seconds=2.0)
    summary, names = summary_of(examples.trajectories([4] * 50), (1.0, 11.0)), {1.0: "median", 9.5: ""}
    assert rollouts.rank_correlation() == pytest.approx(0.878, abs=1e-3)
    measured = figures(rollouts, names, summary)
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    low, high = measured["target_1"], measured["target_9.5"]
    assert (low["target"], low["name"], "name" in high) == (1.0, "median", False)
    assert [low[f"return_{name}"] for name in ("mean", "std", "min", "max")] == [
        2,
        pytest.approx(0.8165, rel=1e-3),
        1,
        3,
    ]
    assert high["score_mean"] == pytest.approx(50)
    assert (low["length_mean"], low["truncated"]) == (2, pytest.approx(2 / 3))
    assert (measured["steps_per_second"], high["data_below"]) == (6, 100)
    rows = table(rollouts, names, summary).splitlines()
    assert rows[0].split() == ["asked", "for", "reached", "from", "to", "steps", "cut", "off", "score"]
    assert rows[1].split() == ["1", "median", "2", "±", "0.8165", "1", "3", "2", "67%", "10"]
    assert len(set(map(len, rows))) == 1
    assert "score" not in table(rollouts, {}, replace(summary, reference=None))
    save_episodes(rollouts, tmp_path / "episodes.json")
    saved = json.loads((tmp_path / "episodes.json").read_text())
    assert saved["target_9.5"] == {"returns": [4, 8, 6], "lengths": [1, 2, 3]}


def test_a_model_without_targets_has_figures_of_its_own():
    rollouts = Rollouts((outcome(None, 1, 3),), seconds=1.0)
    measured = figures(rollouts, {}, summary_of(examples.trajectories([4] * 50)))
    assert measured["no_target"]["return_mean"] == 2
    assert measured["rank_correlation"] is None


def test_the_data_stands_beside_what_was_reached():
    data = examples.trajectories([4] * 50)
    rollouts, summary = Rollouts((outcome(1.0, 1, 2, 3), outcome(90.0, 40, 80, 60)), 2.0), summary_of(data, (-1.0, 9.0))
    measured = figures(rollouts, {}, summary)["data"]
    assert (measured["episodes"], measured["return_max"]) == (50, data.returns().max())
    assert measured["score_max"] == pytest.approx(10 * (data.returns().max() + 1))
    said = sentences(rollouts, summary)
    assert said[0].startswith(f"the data: 50 episodes; median {np.sort(data.returns())[24]:.4g}, ")
    assert said[1] == "asked for 90, it returns 60 on average, more than 100 % of them"


def test_a_share_of_the_data_follows_from_its_percentiles():
    percentiles = np.percentile(np.arange(1001.0), np.arange(101)).tolist()
    assert [share_below(value, percentiles) for value in (-5, 0, 5, 255, 1000, 1001)] == [0, 0, 0, 25, 99, 100]
    assert share_below(500.0, [10.0] * 81 + [500.0] * 20) == 80
    assert share_below(3.0, [3.0] * 101) == 0


def test_a_few_episodes_are_summed_up_by_returns_that_they_have():
    data = examples.trajectories([4] * 6)
    returns, kept = np.sort(data.returns()), Summary.of(data).returns
    assert {*kept} == {*returns}
    assert {*default_targets(np.array(kept)).values()} <= {*returns, returns[-1] + 0.2 * abs(returns[-1])}
    assert [share_below(value, kept) for value in (returns[2], returns[2] + 1e-6, returns[-1])] == [33, 50, 83]


def test_numbers_keep_their_digits():
    shown = [number(value) for value in (0, 0.91, -0.0123456, 9.0, 12.3456, 100.0, 500, -200.25, 1234.5, 1e6)]
    assert shown == ["0", "0.91", "-0.01235", "9", "12.35", "100", "500", "-200.2", "1,234.5", "1,000,000"]
