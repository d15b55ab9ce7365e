"""Agents of stable-baselines3: trained on the spot, kept without pickles, put to act."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.files.atomic import atomic_write
from core.messages import first_line
from decision.collecting.recording import Recorder
from decision.data.sources import extra
from decision.data.store import Trajectories
from decision.environments.make import name_of
from decision.environments.spaces import Space, describe

LIBRARY = "stable-baselines3"
ALGORITHMS: dict[str, dict[str, Any]] = {"ppo": {"n_steps": 256, "batch_size": 256}, "sac": {}}
"""What differs from the library's own settings."""
PICKLED = ":serialized:"  # the key under which the library keeps what is no plain value


class Agent:
    """PPO or SAC in its environments; PPO normalises observations and rewards as it goes, and remembers how.

    Raises ValueError if stable-baselines3 is not installed, or does not take such observations or actions.
    """

    def __init__(self, algorithm: str, environments: Sequence[Recorder], seed: int, **settings: Any):
        library = extra("stable_baselines3", LIBRARY)
        observed, of = _fitting(algorithm, environments[0]), name_of(environments[0])
        vectors, self.seed = library.common.vec_env, seed
        steps = vectors.DummyVecEnv([partial(_itself, env) for env in environments])
        numbers = observed.kind == "box" and observed.stored == np.float32
        self.normaliser = vectors.VecNormalize(
            steps, norm_obs=numbers and algorithm == "ppo", norm_reward=algorithm == "ppo"
        )
        build = getattr(library, algorithm.upper())
        settings = ALGORITHMS[algorithm] | settings
        try:
            self.model = build("MlpPolicy", self.normaliser, seed=seed, device="cpu", **settings)
        except AssertionError as error:
            raise ValueError(f"policy = {algorithm!r} does not fit {of}: {first_line(error)}") from error
        self.model.set_logger(library.common.logger.Logger(None, []))  # its own would leave a folder behind

    @property
    def steps(self) -> int:
        """Environment steps of its training."""
        return int(self.model.num_timesteps)

    def train(self, budget: int, go_on: Callable[[], bool]) -> None:
        """Trains until it has had `budget` steps in all, or until `go_on()`, asked after each step, is false."""
        if budget > self.steps:
            self.model.learn(budget - self.steps, callback=lambda *_: go_on(), reset_num_timesteps=False)

    def remember(self, data: Trajectories) -> None:
        """Fills SAC's memory of past steps, but for fewer than there are environments at the end of the data."""
        assert data.final_observations is not None
        memory, number = self.model.replay_buffer, self.model.n_envs
        following = np.roll(data.observations, -1, axis=0)  # (N, ...)
        following[data.offsets[1:] - 1] = data.final_observations
        actions = self.model.policy.scale_action(data.actions)  # (N, A)
        cut_off = data.truncated & ~data.terminated
        columns = (data.observations, following, actions, data.rewards, data.truncated | data.terminated)
        for first in range(0, data.steps - number + 1, number):
            rows = slice(first, first + number)
            memory.add(*(column[rows] for column in columns), [{"TimeLimit.truncated": cut} for cut in cut_off[rows]])

    def actors(self, seeds: Sequence[int]) -> AgentActors:
        """Who acts in episodes of these seeds: by its probabilities, as in training."""
        torch.manual_seed(seeds[0])
        return AgentActors(self)

    def save(self, path: Path, **about: Any) -> None:
        """Writes what training and acting go on from, as tensors and numbers; `about` comes back from `load`."""
        statistics = [torch.as_tensor(value) for value in self._statistics()]
        with atomic_write(path) as aside:
            torch.save([self.model.get_parameters(), statistics, self.steps, about], aside)

    def load(self, path: Path) -> dict[str, Any]:
        """Takes over what `save` wrote; nothing in it can execute code. Raises ValueError if it is damaged."""
        with _readable(path):
            parameters, statistics, steps, about = torch.load(path, weights_only=True)
            self.model.set_parameters(parameters, device="cpu")
            self._take_over(statistics)
        self.model.num_timesteps = steps
        self.model.set_random_seed(self.seed + steps)
        return dict(about)

    def _statistics(self) -> list[Any]:
        rewards = self.normaliser.ret_rms
        found = [rewards.mean, rewards.var, rewards.count]
        if self.normaliser.norm_obs:
            seen = self.normaliser.obs_rms
            found += [seen.mean, seen.var, seen.count]
        entropy = getattr(self.model, "log_ent_coef", None)  # SAC's, which its parameters lack
        return found if entropy is None else [*found, entropy.detach()]

    def _take_over(self, statistics: Sequence[torch.Tensor]) -> None:
        values = [value.numpy() for value in statistics]
        kept = [self.normaliser.ret_rms] + ([self.normaliser.obs_rms] if self.normaliser.norm_obs else [])
        for i, running in enumerate(kept):
            running.mean, running.var, running.count = values[3 * i : 3 * i + 3]
        if (entropy := getattr(self.model, "log_ent_coef", None)) is not None:
            entropy.data.copy_(statistics[-1])


class AgentActors:
    """An agent in some episodes, of which it remembers nothing."""

    def __init__(self, agent: Agent):
        self.agent = agent

    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...) on raw observations (B, ...)."""
        seen = self.agent.normaliser.normalize_obs(observations)
        actions: NDArray[Any] = self.agent.model.policy.predict(seen, deterministic=False)[0]
        return actions

    def keep(self, rows: Sequence[int]) -> None:
        """Nothing is remembered of any episode."""


def read_agent(path: Path, environments: Sequence[Recorder]) -> Agent:
    """A PPO or SAC agent that stable-baselines3 saved as a zip file, for use on raw observations.

    The file's weights are read, never its pickles. Raises ValueError of one sentence: it is cut or something else,
    has a network that only its pickles describe, or does not fit the environments.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            algorithm = "sac" if "actor.optimizer.pth" in archive.namelist() else "ppo"
            data = json.loads(archive.read("data"))
        settings = data.get("policy_kwargs", {}) if isinstance(data, dict) else None
        if not isinstance(settings, dict):
            raise ValueError("it does not say what network it has")
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path} is cut, or no agent that {LIBRARY} saved: {first_line(error)}") from error
    if PICKLED in settings:
        raise ValueError(f"the network of {path} is described by a pickle, which is not read: give a module:function")
    extra("stable_baselines3", LIBRARY)
    try:
        agent = Agent(algorithm, environments, seed=0, policy_kwargs=settings)
        agent.normaliser.norm_obs = False
        agent.model.set_parameters(path, device="cpu")
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        where = name_of(environments[0])
        raise ValueError(f"{path} is no agent of PPO's or SAC's for {where}: {first_line(error)}") from error
    return agent


def read_kept(path: Path, environments: Sequence[Recorder]) -> tuple[Agent, dict[str, Any]]:
    """An agent that `Agent.save` wrote, and what was said about it, its algorithm as `policy`.

    Raises ValueError of one sentence: it is damaged or something else, or does not fit the environments.
    """
    with _readable(path):
        algorithm = torch.load(path, weights_only=True)[-1]["policy"]
    agent = Agent(algorithm, environments, seed=0)
    return agent, agent.load(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises ValueError of one sentence for whatever reading a file of `Agent.save` raises."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, LookupError, EOFError, pickle.UnpicklingError) as error:
        told = f"{path} is damaged, of another version, or of an environment of other spaces"
        raise ValueError(f"{told}: {first_line(error)}") from error


def _fitting(algorithm: str, environment: Recorder) -> Space:
    """What is observed in an environment. Raises ValueError if the algorithm does not take that, or such actions."""
    observed, acted = describe(environment.observation_space), describe(environment.action_space)
    if algorithm == "sac" and acted.kind != "box":
        raise ValueError(f"policy = 'sac' takes continuous actions, those of {name_of(environment)} are {acted}")
    for what, space in (("observations", observed), ("actions", acted)):
        if any(space.start):
            of = f"the {what} of {name_of(environment)} are {space}"
            raise ValueError(f"policy = {algorithm!r} takes choices that are counted from 0, {of}")
    return observed


def _itself(environment: Recorder) -> Recorder:
    return environment
