"""The scale of returns in an environment: what a random and what an expert policy reach."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from core.training.order import stream
from decision.collecting.behaviour import RandomPolicy
from decision.collecting.config import CollectConfig
from decision.collecting.recorder import Recorder, record_episodes
from decision.data.store import Episode
from decision.data.summary import reference_scores
from decision.environments.spaces import describe

EPISODES = 100  # by which the return of a random policy is measured, or fewer
STEPS = 20_000  # once they have this many steps


def find_reference(config: CollectConfig, recorders: Sequence[Recorder]) -> tuple[float, float] | None:
    """Returns of a random and an expert policy: D4RL's, or measured and the environment's own threshold."""
    threshold = None if recorders[0].spec is None else recorders[0].spec.reward_threshold
    published = reference_scores(config.env)
    if published is not None or threshold is None:
        return published
    return reference_of(random_return(config, recorders), float(threshold))


def random_return(config: CollectConfig, recorders: Sequence[Recorder]) -> float:
    """The mean return of a random policy, measured."""
    behaviour, seed = partial(RandomPolicy, describe(recorders[0].action_space)), first_seed(config.seed + 1)
    episodes: list[Episode] = []
    while len(episodes) < EPISODES and sum(len(episode.rewards) for episode in episodes) < STEPS:
        episodes += record_episodes(recorders[:1], behaviour, [seed + len(episodes)])
    return float(np.mean([episode.rewards.sum(dtype=np.float64) for episode in episodes]))


def reference_of(random: float, expert: float) -> tuple[float, float] | None:
    """A scale of returns, unless the random policy is as good as the expert."""
    return (random, expert) if random < expert else None


def first_seed(seed: int) -> int:
    """The seed of the first episode; the next ones count up from it. Evaluations use other seeds."""
    return int(stream(seed, "collected").random_raw() >> np.uint64(34))
