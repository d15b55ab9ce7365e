"""What a run remembers of its data: where it acts, how numbers are scaled, which returns there are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision.data.store import LEAST_STD, Trajectories
from decision.environments.settings import AS_REGISTERED, EnvSettings
from decision.environments.spaces import Space

CHUNK = 1 << 22  # numbers that are squared at once


@dataclass(frozen=True)
class Normaliser:
    """The statistics of a data set. Observations that are images or choices are not scaled."""

    shape: tuple[int, ...] = ()
    """Of one observation."""
    mean: tuple[float, ...] = ()
    """Of each number of an observation; () where observations are not scaled."""
    std: tuple[float, ...] = ()
    """Standard deviation of each number of an observation."""
    return_scale: float = 1.0
    """What returns are divided by: the largest absolute return-to-go of the data."""
    origin: tuple[float, ...] = ()
    """What is subtracted in float64 first, where float32 would lose what the numbers say; the mean is then 0."""

    def __post_init__(self) -> None:
        if len(self.origin) not in (0, len(self.mean)):
            raise ValueError(f"origin = {self.origin} must hold as many numbers as mean")
        if len(self.mean) != len(self.std) or min(self.std, default=1.0) <= 0:
            raise ValueError(f"mean = {self.mean} and std = {self.std} must be equally many, std above 0")
        if not self.return_scale > 0:
            raise ValueError(f"return_scale = {self.return_scale!r} must be above 0")

    @classmethod
    def of(cls, data: Trajectories) -> Normaliser:
        """Mean and deviation over all steps, each rounded to float32, and the scale of returns."""
        largest = float(np.abs(data.returns_to_go()).max())
        space = data.observation_space
        if space.kind != "box" or space.is_image:
            return cls(space.shape, return_scale=largest or 1.0)
        rows = data.observations.reshape(data.steps, -1)  # (N, size)
        mean = rows.mean(axis=0, dtype=np.float64)
        each = max(1, CHUNK // space.size)  # steps
        chunks = (rows[i : i + each] - mean for i in range(0, data.steps, each))
        std = np.sqrt(sum(np.square(chunk).sum(axis=0) for chunk in chunks) / data.steps)
        std[std < LEAST_STD] = 1.0
        for first, *shape in space.pictures:  # are left as they are
            mean[first : first + prod(shape)], std[first : first + prod(shape)] = 0.0, 1.0
        if space.stored == np.float64:
            origin, mean = tuple(mean.tolist()), np.zeros_like(mean)
        else:
            origin = ()
        means, deviations = (tuple(each.astype(np.float32).tolist()) for each in (mean, std))
        return cls(space.shape, means, deviations, largest or 1.0, origin)

    def centred(self, x: Tensor) -> Tensor:
        """Raw float64 (..., *shape) -> float32, from the origin if there is one; other types are returned unchanged."""
        if x.dtype != torch.float64:
            return x
        return (x - torch.tensor(self.origin, dtype=x.dtype).reshape(self.shape) if self.origin else x).float()

    def observations(self, x: Tensor) -> Tensor:
        """Raw, or centred (..., *shape) -> float32 of mean 0 and deviation 1; images and choices stay as they are."""
        x = self.centred(x)
        if not self.mean:
            return x
        if x.device not in self._statistics:
            self._statistics[x.device] = [
                torch.tensor(values, dtype=torch.float32, device=x.device).reshape(self.shape)
                for values in (self.mean, self.std)
            ]
        mean, std = self._statistics[x.device]
        return (x.float() - mean) / std

    def returns(self, x: Tensor) -> Tensor:
        """Returns or returns-to-go as in the environment -> float32, within [-1, 1] for those of the data."""
        return (x / self.return_scale).float()

    @cached_property
    def _statistics(self) -> dict[torch.device, list[Tensor]]:
        return {}


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
    settings: EnvSettings = AS_REGISTERED
    """How the environment is made beyond its id."""

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
            settings=data.settings,
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
