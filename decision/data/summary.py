"""What a run remembers of its data: where it acts, how numbers are scaled, which returns there are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from decision.data.normaliser import Normaliser
from decision.data.store import Trajectories
from decision.environments.spaces import Space

OCCURRING: Literal["inverted_cdf"] = "inverted_cdf"
"""Percentiles of returns are returns that occur, not values between two of them."""
REFERENCES = {
    "hopper": (-20.272305, 3234.3),
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
}
"""D4RL's returns of a random and of an expert policy (Fu 2020), for every version of an environment."""


@dataclass(frozen=True)
class Summary:
    """A data set as plain values, without its steps."""

    environment: str
    """Gymnasium's id, "" if unknown."""
    observation_space: Space
    action_space: Space
    normaliser: Normaliser
    reference: tuple[float, float] | None
    """Returns of a random and of an expert policy."""
    episodes: int
    steps: int
    longest: int
    """Steps of the longest episode."""
    returns: tuple[float, ...]
    """Percentiles 0, 1, ... 100 of the returns, each of them the return of an episode."""

    def __post_init__(self) -> None:
        if len(self.returns) != 101 or not np.isfinite(self.returns).all():
            raise ValueError(f"returns = {len(self.returns)} numbers must be 101, all finite")

    @classmethod
    def of(cls, data: Trajectories) -> Summary:
        """The summary of a data set."""
        return cls(
            environment=data.environment,
            observation_space=data.observation_space,
            action_space=data.action_space,
            normaliser=Normaliser.of(data),
            reference=reference_scores(data.environment) or data.reference,
            episodes=len(data),
            steps=data.steps,
            longest=int(data.lengths().max()),
            returns=tuple(np.percentile(data.returns(), np.arange(101), method=OCCURRING).tolist()),
        )

    def targets(self) -> dict[str, float]:
        """Returns worth asking for, see `default_targets`."""
        return default_targets(np.array(self.returns))


def default_targets(returns: NDArray[np.float64]) -> dict[str, float]:
    """Returns worth asking for, by name, from those of the data (E,): median, 90 %, best, and 20 % above the best.

    20 % of the size of the best, so that it is more than the best even where that is negative.
    """
    median, high, best = np.percentile(returns, (50, 90, 100), method=OCCURRING).tolist()
    return {"median": median, "90 %": high, "max": best, "max + 20 %": best + 0.2 * abs(best)}


def reference_scores(environment: str) -> tuple[float, float] | None:
    """D4RL's returns of a random and of an expert policy in an environment; None where it has none."""
    family = re.fullmatch(r"(\w+?)(-v\d+)?", environment)
    return REFERENCES.get(family[1].lower()) if family else None


def normalised(returns: NDArray[np.float64], reference: tuple[float, float]) -> NDArray[np.float64]:
    """Scores of returns (Fu 2020, section 4): 0 for a random policy's, 100 for an expert's."""
    random, expert = reference
    return 100 * (returns - random) / (expert - random)
