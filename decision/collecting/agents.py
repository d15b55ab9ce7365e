"""Agents of stable-baselines3: trained, saved without pickles, and used to act."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.files.atomic import atomic_write
from core.messages import first_line
from decision.acting.episodes import BatchPolicy
from decision.collecting.recording import Recorder
from decision.data.sources import extra
from decision.environments.make import name_of
from decision.environments.spaces import Space, describe

LIBRARY = "stable-baselines3"
ALGORITHMS: dict[str, dict[str, Any]] = {"ppo": {"n_steps": 256, "batch_size": 256}, "sac": {}}
"""Settings that differ from the library's own."""
PICKLED = ":serialized:"  # the key of whatever the library stores as a pickle


class Agent(BatchPolicy):
    """PPO or SAC in its environments; PPO normalises observations and rewards by running statistics.

    Raises ValueError if stable-baselines3 is not installed, or does not handle such observations or actions.
    """

    def __init__(self, algorithm: str, environments: Sequence[Recorder], seed: int, **settings: Any):
        library = extra("stable_baselines3", LIBRARY)
        observed, vectors = _check_spaces(algorithm, environments[0]), library.common.vec_env
        batch = vectors.DummyVecEnv([lambda env=env: env for env in environments])
        numbers = observed.kind == "box" and observed.stored == np.float32
        ppo = algorithm == "ppo"
        self.normaliser = vectors.VecNormalize(batch, norm_obs=numbers and ppo, norm_reward=ppo)
        build = getattr(library, algorithm.upper())
        settings = ALGORITHMS[algorithm] | settings
        try:
            self.model = build("MlpPolicy", self.normaliser, seed=seed, device="cpu", **settings)
        except AssertionError as error:
            where = name_of(environments[0])
            raise ValueError(f"policy = {algorithm!r} does not fit {where}: {first_line(error)}") from error
        self.model.set_logger(library.common.logger.Logger(None, []))  # the default leaves a folder behind

    @property
    def steps(self) -> int:
        """Environment steps of its training."""
        return int(self.model.num_timesteps)

    def behaviour(self, seeds: Sequence[int]) -> Agent:
        """The policy for episodes of these seeds; it draws its actions, as in training."""
        torch.manual_seed(seeds[0])
        return self

    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...) for raw observations (B, ...)."""
        normalised = self.normaliser.normalize_obs(observations)
        actions: NDArray[Any] = self.model.policy.predict(normalised, deterministic=False)[0]
        return actions

    def save(self, path: Path, **notes: Any) -> None:
        """Writes what acting needs, as tensors and numbers; `load` returns the notes."""
        running = self._running()
        statistics = [torch.as_tensor(value) for each in running for value in (each.mean, each.var, each.count)]
        with atomic_write(path) as aside:
            torch.save([self.model.get_parameters(), statistics, self.steps, notes], aside)

    def load(self, path: Path) -> dict[str, Any]:
        """Reads what `save` wrote; nothing in it can execute code. Raises ValueError if it is damaged."""
        with _readable(path):
            parameters, statistics, steps, notes = torch.load(path, weights_only=True)
            self.model.set_parameters(parameters, device="cpu")
            for i, each in enumerate(self._running()):
                each.mean, each.var, each.count = (value.numpy() for value in statistics[3 * i : 3 * i + 3])
        self.model.num_timesteps = steps
        return dict(notes)

    def _running(self) -> list[Any]:
        """The running statistics of rewards and, where they are normalised, of observations."""
        return [self.normaliser.ret_rms] + ([self.normaliser.obs_rms] if self.normaliser.norm_obs else [])


def read_agent(path: Path, environments: Sequence[Recorder]) -> Agent:
    """A PPO or SAC agent that stable-baselines3 saved as a zip file, for raw observations.

    Its weights are read, never its pickles. Raises ValueError of one sentence: the file is cut short or of another
    kind, its network is described by a pickle alone, or it does not fit the environments.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            algorithm = "sac" if "actor.optimizer.pth" in archive.namelist() else "ppo"
            data = json.loads(archive.read("data"))
        settings = data.get("policy_kwargs", {}) if isinstance(data, dict) else None
        if not isinstance(settings, dict):
            raise ValueError("it does not describe its network")
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path} is cut short, or not an agent that {LIBRARY} saved: {first_line(error)}") from error
    if PICKLED in settings:
        raise ValueError(f"the network of {path} is described by a pickle, which is not read: use a module:function")
    extra("stable_baselines3", LIBRARY)
    try:
        agent = Agent(algorithm, environments, seed=0, policy_kwargs=settings)
        agent.normaliser.norm_obs = False
        agent.model.set_parameters(path, device="cpu")
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        where = name_of(environments[0])
        raise ValueError(f"{path} is not an agent of PPO's or SAC's for {where}: {first_line(error)}") from error
    return agent


def load_agent(path: Path, environments: Sequence[Recorder]) -> tuple[Agent, dict[str, Any]]:
    """An agent that `Agent.save` wrote, and its notes. Raises ValueError if it is damaged or of other environments."""
    with _readable(path):
        algorithm = torch.load(path, weights_only=True)[-1]["policy"]
    agent = Agent(algorithm, environments, seed=0)
    return agent, agent.load(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises ValueError of one sentence in place of any error of reading what `Agent.save` wrote."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, LookupError, EOFError, pickle.UnpicklingError) as error:
        reason = "is damaged, of another version, or of an environment of other spaces"
        raise ValueError(f"{path} {reason}: {first_line(error)}") from error


def _check_spaces(algorithm: str, environment: Recorder) -> Space:
    """The space of observations. Raises ValueError if the algorithm does not handle it, or that of the actions."""
    observed, acted = describe(environment.observation_space), describe(environment.action_space)
    if algorithm == "sac" and acted.kind != "box":
        raise ValueError(f"policy = 'sac' takes continuous actions, those of {name_of(environment)} are {acted}")
    for what, space in (("observations", observed), ("actions", acted)):
        if any(space.start):
            of = f"the {what} of {name_of(environment)} are {space}"
            raise ValueError(f"policy = {algorithm!r} takes choices numbered from 0, {of}")
    return observed
