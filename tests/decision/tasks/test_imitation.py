"""What is logged of an evaluation during training."""

from __future__ import annotations

import numpy as np

from decision.acting.episodes import Episodes, Rollouts, TargetEpisodes
from decision.tasks.imitation import mean_figures


def outcome(target: float | None, *returns: float) -> TargetEpisodes:
    values = np.array(returns, np.float64)
    return TargetEpisodes(target, Episodes(values, np.arange(1, 1 + len(values)), values > 2))


def test_the_target_of_the_highest_return_is_logged() -> None:
    found = Rollouts((outcome(1.0, 1, 2, 3), outcome(9.5, 4, 8, 6), outcome(20.0, 1, 1, 1)), seconds=2.0)
    told = mean_figures(found, reference=(1.0, 11.0))
    correlation = told.pop("rank_correlation")
    assert correlation == found.rank_correlation()
    assert told == {"return": 6, "length": 2, "score": 50, "return_1": 2, "return_9.5": 6, "return_20": 1}
    assert mean_figures(Rollouts((outcome(None, 1, 3),), seconds=1.0), None) == {"return": 2, "length": 1.5}
