"""What a model reaches of the returns that it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision.acting.episodes import Episodes, Progress, ignore, play
from decision.acting.policy import ModelPolicy, check_finite
from decision.data.normaliser import Normaliser
from decision.environments.make import episode_seed, require_length, require_spaces
from decision.models.decision_transformer import DecisionTransformer

if TYPE_CHECKING:
    from decision.environments.make import Environment


@dataclass(frozen=True, eq=False)
class TargetEpisodes:
    """N episodes with the same target return."""

    target: float | None
    """None for a model without return tokens."""
    episodes: Episodes


@dataclass(frozen=True, eq=False)
class Rollouts:
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
    progress: Progress = ignore,
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
    return Rollouts(_results(wanted if conditioned else [None], *total), seconds)


def _results(
    targets: Sequence[float | None], returns: NDArray[Any], lengths: NDArray[Any], terminated: NDArray[Any]
) -> tuple[TargetEpisodes, ...]:
    """The episodes of each target, from numbers (targets, episodes)."""
    each = zip(targets, returns, lengths.astype(np.int64), terminated > 0, strict=True)
    return tuple(TargetEpisodes(target, Episodes(*numbers)) for target, *numbers in each)
