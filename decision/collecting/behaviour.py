"""Policies that data is collected with: random, or a function of the user's."""

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.messages import first_line
from core.training.order import stream
from decision.acting.episodes import BatchPolicy
from decision.environments.spaces import Space

Behaviour = Callable[[Sequence[int]], BatchPolicy]
"""The policy for episodes of these seeds, from which all its random choices follow."""


class RandomPolicy:
    """Uniform actions, or as Gymnasium draws them where there are no bounds; a random stream for each episode."""

    def __init__(self, space: Space, seeds: Sequence[int]):
        self.spaces = [space.gym() for _ in seeds]
        for each, seed in zip(self.spaces, seeds, strict=True):
            each.seed(int(stream(seed, "actions").random_raw() >> 33))  # the seed itself is the environment's

    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...), whatever the observations."""
        return np.stack([space.sample() for space in self.spaces])

    def keep(self, rows: Sequence[int]) -> None:
        """Continues with these of the episodes only."""
        self.spaces = [self.spaces[row] for row in rows]


class FunctionPolicy(BatchPolicy):
    """A function from one raw observation to one action; continuous ones are clipped to their bounds."""

    def __init__(self, name: str, function: Callable[[Any], Any], space: Space):
        self.name, self.function, self.space = name, function, space
        self.gym = space.gym()

    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...). Raises ValueError for a result that is not an action of the environment."""
        return np.stack([self._act(observation) for observation in observations])

    def _act(self, observation: NDArray[Any]) -> NDArray[Any]:
        result = self.function(observation)
        try:
            action = np.asarray(result).reshape(self.space.shape)
            if self.space.kind == "box":
                action = np.clip(action.astype(self.space.dtype), *self.space.bounds()).astype(self.space.dtype)
            valid = self.gym.contains(action if self.space.shape else action[()])
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise ValueError(f"{self.name} returned {result!r}, which is not an action of {self.space}")
        return action


def import_function(name: str) -> Callable[[Any], Any]:
    """The function `module:name`, which may lie in the current folder. Raises ValueError if there is none."""
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a user's module may raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"policy = {name!r} cannot be imported: {reason}") from error
    if not callable(function):
        raise ValueError(f"policy = {name!r} is not a function of an observation, but {function!r}")
    return function


def find_behaviour(policy: str, space: Space) -> Behaviour:
    """The policy of a name: `random`, or `module:function`. Raises ValueError of one sentence for anything else."""
    if policy == "random":
        return lambda seeds: RandomPolicy(space, seeds)
    if ":" in policy and not Path(policy).exists():
        function = import_function(policy)
        return lambda seeds: FunctionPolicy(policy, function, space)
    accepted = "random, ppo, sac, module:function, an agent.zip or .pt, a run folder of decision.train"
    raise ValueError(f"policy = {policy!r} is not one of: {accepted}")
