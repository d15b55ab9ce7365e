"""Episodes in several environments at once: one per seed, and each of them counts, however long it lasts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from decision.environments.make import as_array, name_of
from decision.environments.spaces import Space, describe

if TYPE_CHECKING:
    from decision.environments.make import Environment

Progress = Callable[[int], object]
"""Called with the number of episodes that have just ended."""


class BatchPolicy(Protocol):
    """Acts in B episodes at once, from their first step to the last."""

    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...) for raw observations (B, ...); rewards (B,) of the previous actions, None at first."""

    def keep(self, rows: Sequence[int]) -> None:
        """Continues with these of the episodes only, in this order."""


class Episodes(NamedTuple):
    """The results of N episodes."""

    returns: NDArray[np.float64]
    """Sum of the rewards: (N,)."""
    lengths: NDArray[np.int64]
    """Steps: (N,)."""
    terminated: NDArray[np.bool_]
    """Whether the task itself ended, rather than a time limit: (N,)."""


def ignore(ended: int) -> None:
    """No progress is shown."""


def play(
    environments: Sequence[Environment], seeds: Sequence[int], policy: BatchPolicy, progress: Progress = ignore
) -> Episodes:
    """One episode in each environment, in step with each other; episodes that have ended leave the batch.

    seeds: of the resets, one for each environment.

    Raises ValueError naming the environment for an observation of another shape than it declares, and with the step
    for an observation or a reward that is not a finite number.
    """
    number, space = len(environments), describe(environments[0].observation_space)
    observations, rewards = np.empty((number, *space.shape), space.stored), np.zeros(number, np.float32)
    for row, (environment, seed) in enumerate(zip(environments, seeds, strict=True)):
        observations[row] = as_array(environment, environment.reset(seed=seed)[0], space)
    episodes = Episodes(np.zeros(number), np.zeros(number, np.int64), np.zeros(number, np.bool_))
    running = list(range(number))  # the episode of each row of the batch
    previous: NDArray[np.float32] | None = None  # rewards of the last actions
    while running:
        first, step = environments[running[0]], int(episodes.lengths[running[0]])
        require_finite("an observation", observations[: len(running)], first, step, [seeds[i] for i in running])
        actions = policy.act(observations[: len(running)], previous)
        rows = _step(environments, running, actions, episodes, (observations, rewards, space))
        require_finite("a reward", episodes.returns, first, step, seeds)
        if len(rows) < len(running):
            progress(len(running) - len(rows))
        if 0 < len(rows) < len(running):
            policy.keep(rows)
        running, previous = [running[row] for row in rows], rewards[: len(rows)]
    return episodes


def _step(
    environments: Sequence[Environment],
    running: Sequence[int],
    actions: NDArray[Any],
    episodes: Episodes,
    batch: tuple[NDArray[Any], NDArray[np.float32], Space],
) -> list[int]:
    """One step of every running episode, written into the first rows of the batch; the rows that continue."""
    observations, rewards, space = batch
    rows: list[int] = []
    for row, episode in enumerate(running):
        observation, reward, terminated, truncated, _ = environments[episode].step(actions[row])
        episodes.returns[episode] += reward
        episodes.lengths[episode] += 1
        episodes.terminated[episode] = terminated
        if not (terminated or truncated):
            observations[len(rows)] = as_array(environments[episode], observation, space)
            rewards[len(rows)] = reward
            rows.append(row)
    return rows


def require_finite(what: str, values: NDArray[Any], environment: Environment, step: int, seeds: Sequence[int]) -> None:
    """Raise ValueError for a number that is not finite, saying where: values (B, ...), seeds (B,) of the episodes."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(1)))
        where = f"at step {step} of the episode of seed {seeds[row]}"
        raise ValueError(f"{name_of(environment)} returned {what} that is not finite, {where}")
