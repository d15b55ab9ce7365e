"""An environment that records its episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from core.cli.exits import Interrupted, StopRequest
from decision.acting.episodes import play
from decision.collecting.behaviour import Behaviour
from decision.data.store import Episode
from decision.environments.make import as_array, name_of, spaces_of


class Recorder(gymnasium.Wrapper):
    """An environment that keeps its episodes, in `finished`, as they end.

    Raises ValueError for an observation or a reward that is not a finite number, and Interrupted instead of another
    step once `stop` has been requested.
    """

    def __init__(self, environment: gymnasium.Env[Any, Any], stop: StopRequest):
        super().__init__(environment)
        self.stop = stop
        self.observed, self.acted = spaces_of(self)
        self.finished: list[Episode] = []
        self._observations: list[NDArray[Any]] = []
        self._actions: list[NDArray[Any]] = []
        self._rewards: list[float] = []
        self._seed: int | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode and drops an unfinished one."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._observations, self._actions, self._rewards = [self._copy(observation)], [], []
        self._seed = seed
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step, which is recorded."""
        if self.stop.made:
            raise Interrupted
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._observations.append(self._copy(observation))
        self._actions.append(np.array(action, self.acted.stored))
        self._rewards.append(float(reward))
        if terminated or truncated:
            self.finished.append(self._episode(bool(terminated), bool(truncated)))
        return observation, reward, terminated, truncated, info

    def take(self) -> list[Episode]:
        """The finished episodes, which are then no longer kept here."""
        taken, self.finished = self.finished, []
        return taken

    def _copy(self, observation: Any) -> NDArray[Any]:
        """A copy, since an environment may write its next observation over this one."""
        return as_array(self, observation, self.observed).astype(self.observed.stored)

    def _episode(self, terminated: bool, truncated: bool) -> Episode:
        observations, rewards = np.stack(self._observations), np.array(self._rewards, np.float32)
        for what, values in (("an observation", observations), ("a reward", rewards)):
            for step in np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1)).tolist():
                of = "" if self._seed is None else f" of seed {self._seed}"
                where = f"at step {step} of the episode{of}"
                raise ValueError(f"{name_of(self)} returned {what} that is not finite, {where}")
        return Episode(observations[:-1], np.stack(self._actions), rewards, terminated, truncated, observations[-1])


def record_episodes(recorders: Sequence[Recorder], behaviour: Behaviour, seeds: Sequence[int]) -> list[Episode]:
    """One episode for each seed, at most as many as there are environments."""
    play(recorders[: len(seeds)], seeds, behaviour(seeds))
    return [episode for recorder in recorders[: len(seeds)] for episode in recorder.take()]
