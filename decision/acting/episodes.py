"""Episodes in several environments at once, one per seed, each of which counts; what a model reaches in them."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision.acting.policy import ModelPolicy, check_finite
from decision.data.summary import Normaliser
from decision.environments.make import episode_seed, registered_limit, require_length, require_spaces, step_limit
from decision.environments.observations import Environment, as_array, name_of
from decision.environments.settings import EnvSettings
from decision.environments.spaces import describe
from decision.models.decision_transformer import DecisionTransformer

Progress = Callable[[int], object]
"""Called with the number of episodes that have just ended."""
ENDLESS = 20_000
"""Steps after which an episode counts as endless, in an environment without a limit of steps."""


class BatchPolicy(Protocol):
    """Acts in B episodes at once, from their first step to the last."""

    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...) for raw observations (B, ...); rewards (B,) of the previous actions, None at first."""

    def keep(self, rows: Sequence[int]) -> None:
        """Continues with these of the episodes only, in this order; nothing to do without a state."""
        return None


class Episodes(NamedTuple):
    """The results of N episodes."""

    returns: NDArray[np.float64]
    """Sum of the rewards: (N,)."""
    lengths: NDArray[np.int64]
    """Steps: (N,)."""
    terminated: NDArray[np.bool_]
    """Whether the task itself ended, rather than a time limit: (N,)."""


def play(
    environments: Sequence[Environment], seeds: Sequence[int], policy: BatchPolicy, progress: Progress | None = None
) -> Episodes:
    """One episode in each environment, in step with each other; episodes that have ended leave the batch.

    seeds: of the resets, one for each environment.

    Raises ValueError naming the environment for an observation of another shape than it declares, for an episode
    without end, and with the step for an observation or a reward that is not a finite number.
    """
    number, space = len(environments), describe(environments[0].observation_space)
    observations, rewards = np.empty((number, *space.shape), space.observed), np.zeros(number, np.float32)
    for row, (environment, seed) in enumerate(zip(environments, seeds, strict=True)):
        observations[row] = as_array(environment, environment.reset(seed=seed)[0], space)
    episodes = Episodes(np.zeros(number), np.zeros(number, np.int64), np.zeros(number, np.bool_))
    running = list(range(number))  # the episode of each row of the batch
    previous: NDArray[np.float32] | None = None  # rewards of the last actions
    while running:
        first, step = environments[running[0]], int(episodes.lengths[running[0]])
        require_finite("an observation", observations[: len(running)], first, step, [seeds[i] for i in running])
        require_end(first, step)
        actions = policy.act(observations[: len(running)], previous)
        rows: list[int] = []  # those whose episodes continue
        for row, episode in enumerate(running):
            observation, reward, terminated, truncated, _ = environments[episode].step(actions[row])
            episodes.returns[episode] += reward
            episodes.lengths[episode] += 1
            episodes.terminated[episode] = terminated
            if not (terminated or truncated):
                observations[len(rows)] = as_array(environments[episode], observation, space)
                rewards[len(rows)] = reward
                rows.append(row)
        require_finite("a reward", episodes.returns, first, step, seeds)
        if progress and len(rows) < len(running):
            progress(len(running) - len(rows))
        if 0 < len(rows) < len(running):
            policy.keep(rows)
        running, previous = [running[row] for row in rows], rewards[: len(rows)]
    return episodes


def require_end(environment: Environment, step: int) -> None:
    """Raise ValueError when an episode is this long although nothing limits it."""
    if step >= ENDLESS and step_limit(environment) is None:
        said = f"an episode of {name_of(environment)} has not ended after {step:,} steps"
        raise ValueError(f"{said}, and the environment has no limit of steps: give one with --max-steps")


def without_limit(identifier: str, settings: EnvSettings, longest: int | None) -> str:
    """What there is to say of an environment without a limit of steps, in which a model acts; "" where it has one."""
    if registered_limit(identifier, settings):
        return ""
    cut = f": episodes are cut off after {longest:,}, where the model's table of timesteps ends" if longest else ""
    return f"{identifier} has no limit of steps{cut}; --env-args max_episode_steps=N sets one"


def labels(targets: Sequence[float], digits: int) -> list[str]:
    """Targets as words of so many digits, or all of them where two would be the same."""
    short = [f"{target:.{digits}g}" for target in targets]
    return [word if short.count(word) == 1 else repr(target) for word, target in zip(short, targets, strict=True)]


def require_finite(what: str, values: NDArray[Any], environment: Environment, step: int, seeds: Sequence[int]) -> None:
    """Raise ValueError for a number that is not finite, saying where: values (B, ...), seeds (B,) of the episodes."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(1)))
        where = f"at step {step} of the episode of seed {seeds[row]}"
        raise ValueError(f"{name_of(environment)} returned {what} that is not finite, {where}")


class TargetEpisodes(NamedTuple):
    """N episodes with the same target return."""

    target: float | None
    """None for a model without return tokens."""
    episodes: Episodes


class Rollouts(NamedTuple):
    """The episodes for every target, and the time they took."""

    results: tuple[TargetEpisodes, ...]
    seconds: float
    """Wall time of acting."""

    @property
    def steps(self) -> int:
        """Steps of all environments together."""
        return sum(int(result.episodes.lengths.sum()) for result in self.results)

    def best(self) -> TargetEpisodes:
        """The target of the highest mean return."""
        return max(self.results, key=lambda result: result.episodes.returns.mean())

    def rank_correlation(self) -> float | None:
        """Spearman's, between target and return, over all episodes; None for fewer than two targets."""
        from scipy.stats import spearmanr

        targets = [np.full_like(each.episodes.returns, each.target) for each in self.results if each.target is not None]
        returns = np.concatenate([result.episodes.returns for result in self.results])
        if len(targets) < 2 or len(set(returns.tolist())) < 2:
            return None
        return float(spearmanr(np.concatenate(targets), returns).statistic)


def roll_out(
    model: DecisionTransformer,
    normaliser: Normaliser,
    environments: Sequence[Environment],
    targets: Sequence[float],
    episodes: int,
    *,
    seed: int = 0,
    temperature: float = 0.0,
    progress: Progress | None = None,
    share: tuple[int, int] = (0, 1),
    reduce: Callable[[Tensor], Tensor] = lambda total: total,
) -> Rollouts:
    """Lets a model in evaluation mode play `episodes` for each target, as many at once as there are environments.

    targets: returns to ask for; a model without return tokens plays once, whatever they are.
    seed: episode i of every target begins from `episode_seed(seed, i)`, which its draws follow from too.
    share: (rank, number of processes), each of which plays its part; `reduce` then sums a tensor over all of them.

    Raises ValueError, before the first step, for an environment of other spaces or of longer episodes than the model
    can handle, a target that is not a finite number, and what `ModelPolicy` refuses; later, what `play` refuses.
    """
    config = model.config
    require_spaces(environments[0], *config.spaces(), "the model")
    require_length(environments[0], config.longest)
    conditioned = config.returns == "token"
    wanted = [check_finite("target_return", target) for target in targets] if conditioned else [0.0]
    seeds = [episode_seed(seed, episode) for episode in range(episodes)]
    pairs = [(target, one) for target in wanted for one in seeds]
    mine, measured = range(share[0], len(pairs), share[1]), np.zeros((3, len(pairs)))
    started = time.perf_counter()
    for first in range(0, len(mine), len(environments)):
        places = list(mine[first : first + len(environments)])
        asked, begins = zip(*(pairs[place] for place in places), strict=True)
        policy = ModelPolicy(model, normaliser, asked, temperature=temperature, seeds=begins)
        measured[:, places] = play(environments[: len(places)], begins, policy, progress)
    seconds = time.perf_counter() - started
    total = reduce(torch.from_numpy(measured)).cpu().numpy().reshape(3, len(wanted), -1)
    each = zip(wanted if conditioned else [None], total[0], total[1].astype(np.int64), total[2] > 0, strict=True)
    return Rollouts(tuple(TargetEpisodes(target, Episodes(*numbers)) for target, *numbers in each), seconds)
