"""Episodes in several environments at once: one for each seed, each counted, however long it lasts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision.acting.policy import Actors, check_target
from decision.collecting import behaviour
from decision.data.normaliser import Normaliser
from decision.environments.make import as_declared, episode_seed, make, name_of, require_length, require_spaces
from decision.environments.spaces import describe
from decision.models.decision_transformer import DecisionTransformer

if TYPE_CHECKING:
    import gymnasium

    Environment = gymnasium.Env[Any, Any]


class Episodes(NamedTuple):
    """What came of N episodes."""

    returns: NDArray[np.float64]
    """Sum of the rewards: (N,)."""
    lengths: NDArray[np.int64]
    """Steps: (N,)."""
    terminated: NDArray[np.bool_]
    """Whether the task itself ended it, and not a limit of time: (N,)."""


def _unwatched(ended: int) -> None:
    """Nobody looks."""


def play(
    environments: Sequence[Environment],
    seeds: Sequence[int],
    actors: behaviour.Actors,
    watch: Callable[[int], object] = _unwatched,
) -> Episodes:
    """One episode in each environment, all in step with each other; those that have ended leave the batch.

    seeds: of the resets, one for each environment.
    watch: told how many episodes have ended, when some have.

    Raises ValueError, with its environment, for an observation of another shape than it declares, and with the step
    for an observation or a reward that is not a finite number.
    """
    number, space = len(environments), describe(environments[0].observation_space)
    seen, rewards = np.empty((number, *space.shape), space.stored), np.zeros(number, np.float32)
    for row, (environment, seed) in enumerate(zip(environments, seeds, strict=True)):
        seen[row] = as_declared(environment, environment.reset(seed=seed)[0], space)
    found = Episodes(np.zeros(number), np.zeros(number, np.int64), np.zeros(number, np.bool_))
    running = list(range(number))  # the place of each row of the batch
    brought: NDArray[np.float32] | None = None  # rewards of the actions before
    while running:
        here = environments[running[0]], int(found.lengths[running[0]])
        require_finite("an observation", seen[: len(running)], *here, [seeds[place] for place in running])
        actions = actors.act(seen[: len(running)], brought)
        rows: list[int] = []  # those that go on
        for row, place in enumerate(running):
            observation, reward, terminated, truncated, _ = environments[place].step(actions[row])
            found.returns[place] += reward
            found.lengths[place] += 1
            found.terminated[place] = terminated
            if not (terminated or truncated):
                seen[len(rows)], rewards[len(rows)] = as_declared(environments[place], observation, space), reward
                rows.append(row)
        require_finite("a reward", found.returns, *here, seeds)
        if len(rows) < len(running):
            watch(len(running) - len(rows))
        if 0 < len(rows) < len(running):
            actors.keep(rows)
        running, brought = [running[row] for row in rows], rewards[: len(rows)]
    return found


def require_finite(what: str, values: NDArray[Any], environment: Environment, step: int, seeds: Sequence[int]) -> None:
    """Raise ValueError for a number that is not finite, with its place: values (B, ...), seeds (B,) of the episodes."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(1)))
        where = f"at step {step} of the episode of seed {seeds[row]}"
        raise ValueError(f"{name_of(environment)} gave {what} that is not finite, {where}")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What N episodes reached of a return that was asked for."""

    target: float | None
    """None for a model that is told no return."""
    episodes: Episodes


@dataclass(frozen=True, eq=False)
class Rollouts:
    """The outcomes for several targets, and what it took."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    """Wall time of acting."""

    @property
    def steps(self) -> int:
        """Steps of all environments together."""
        return sum(int(outcome.episodes.lengths.sum()) for outcome in self.outcomes)

    def rank_correlation(self) -> float | None:
        """Spearman's, of what was asked and what was reached, over all episodes; None for fewer than two targets."""
        from scipy.stats import spearmanr

        asked = [np.full_like(o.episodes.returns, o.target) for o in self.outcomes if o.target is not None]
        reached = np.concatenate([outcome.episodes.returns for outcome in self.outcomes])
        if len(asked) < 2 or len(set(reached.tolist())) < 2:
            return None
        return float(spearmanr(np.concatenate(asked), reached).statistic)


@contextmanager
def opened(
    identifier: str, number: int, *, max_steps: int | None = None, longest: int | None = None
) -> Iterator[list[Environment]]:
    """Several environments of one kind (see `environments.make`), closed in the end."""
    environments: list[Environment] = []
    try:
        for _ in range(number):
            environments.append(make(identifier, max_steps=max_steps, longest=longest))
        yield environments
    finally:
        for environment in environments:
            environment.close()


def rollouts(
    model: DecisionTransformer,
    normaliser: Normaliser,
    environments: Sequence[Environment],
    targets: Sequence[float],
    episodes: int,
    *,
    seed: int = 0,
    temperature: float = 0.0,
    watch: Callable[[int], object] = _unwatched,
    share: tuple[int, int] = (0, 1),
    reduce: Callable[[Tensor], Tensor] = lambda total: total,
) -> Rollouts:
    """What a model in evaluation mode reaches: `episodes` for each target, as many at once as there are environments.

    targets: returns to ask for; of a model that is told none there is one outcome, whatever they are.
    seed: episode i of each target begins from `episode_seed(seed, i)`, and draws from it where there is a temperature.
    watch: told how many episodes have ended, when some have.
    share: (rank, number of processes), each of which plays its part; `reduce` then sums a tensor over all of them.

    Raises ValueError, before the first step, for an environment of other spaces or of longer episodes than the
    model's table of timesteps, a target that is not a finite number, and what `policy.Actors` refuses; later, what
    `play` refuses.
    """
    config = model.config
    assert config.observation_space is not None
    assert config.action_space is not None
    require_spaces(environments[0], config.observation_space, config.action_space, "the model")
    require_length(environments[0], config.longest)
    told = config.returns == "token"
    asked = [check_target(target) for target in targets] if told else [0.0]
    seeds = [episode_seed(seed, episode) for episode in range(episodes)]
    pairs = [(target, one) for target in asked for one in seeds]
    mine, came = range(share[0], len(pairs), share[1]), np.zeros((3, len(pairs)))
    started = time.perf_counter()
    for first in range(0, len(mine), len(environments)):
        places = list(mine[first : first + len(environments)])
        wanted, begins = zip(*(pairs[place] for place in places), strict=True)
        actors = Actors(model, normaliser, wanted, temperature=temperature, seeds=begins)
        came[:, places] = play(environments[: len(wanted)], begins, actors, watch)
    seconds = time.perf_counter() - started
    returns, lengths, terminated = reduce(torch.from_numpy(came)).cpu().numpy().reshape(3, len(asked), -1)
    outcomes = [
        Outcome(target if told else None, Episodes(returns[i], lengths[i].astype(np.int64), terminated[i] > 0))
        for i, target in enumerate(asked)
    ]
    return Rollouts(tuple(outcomes), seconds)
