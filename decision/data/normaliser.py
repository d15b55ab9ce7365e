"""How the numbers of an environment are scaled for a model, the same in training, evaluation and use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision.data.store import Trajectories

CHUNK = 1 << 22  # numbers that are squared at once
LEAST_STD = 1e-6
"""A number of smaller deviation counts as constant: it is centred, but not scaled."""


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

    def __post_init__(self) -> None:
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
        return cls(space.shape, _float32(mean), _float32(std), largest or 1.0)

    def observations(self, x: Tensor) -> Tensor:
        """Raw (..., *shape) -> float32 of mean 0 and deviation 1; images and choices are returned unchanged."""
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


def _float32(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(values.astype(np.float32).tolist())
