"""Agents of stable-baselines3: trained, saved without pickles, and used to act."""

from __future__ import annotations

import base64
import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.files.atomic import atomic_write
from core.messages import first_line, notice
from decision.acting.episodes import BatchPolicy
from decision.collecting.pickles import Inert, read_pickle
from decision.collecting.recording import Recorder
from decision.data.files import extra
from decision.environments.observations import name_of
from decision.environments.spaces import Space, describe

LIBRARY = "stable-baselines3"
ALGORITHMS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 256, "batch_size": 256},
    "sac": {},
    "a2c": {},
    "td3": {},
    "dqn": {"learning_rate": 2e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000}
    | {"train_freq": 32, "gradient_steps": 128, "target_update_interval": 80},
}
"""Settings that differ from the library's own."""
ON_POLICY, CONTINUOUS, CHOICES = ("ppo", "a2c"), ("sac", "td3"), ("dqn",)
"""Those that learn from their last steps only, and whose observations and rewards are normalised; those that take
continuous actions only, and one choice only."""
NOISE = 0.1  # standard deviation of what td3 adds to its actions in training, of a range from -1 to 1
PICKLED = ":serialized:"  # the key of whatever the library stores as a pickle
BESIDE = (
    "vecnormalize.pkl",
    "vec_normalize.pkl",
    "{0}/vecnormalize.pkl",
    "{0}_vecnormalize.pkl",
    "{1}_vecnormalize_{2}",
)
"""Names of the statistics of VecNormalize beside an agent {0}.zip, or {1}_{2}.zip with {2} = N_steps."""


class Agent(BatchPolicy):
    """An agent in its environments; on-policy ones normalise observations and rewards by running statistics.

    Raises ValueError if stable-baselines3 is not installed, or does not handle such observations or actions.
    """

    def __init__(self, algorithm: str, environments: Sequence[Recorder], seed: int, **settings: Any):
        library = extra("stable_baselines3", LIBRARY)
        observed, vectors = _check_spaces(algorithm, environments[0]), library.common.vec_env
        batch = vectors.DummyVecEnv([lambda env=env: env for env in environments])
        numbers = observed.kind == "box" and observed.stored == np.float32
        normalised = algorithm in ON_POLICY
        self.normaliser = vectors.VecNormalize(batch, norm_obs=numbers and normalised, norm_reward=normalised)
        build = getattr(library, algorithm.upper())
        settings = ALGORITHMS[algorithm] | settings
        if algorithm == "td3":
            zeros = np.zeros(environments[0].action_space.shape or ())
            settings["action_noise"] = library.common.noise.NormalActionNoise(zeros, zeros + NOISE)
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
        """The policy for episodes of these seeds; it draws its actions, but for dqn and td3, which have no chance."""
        torch.manual_seed(seeds[0])
        return self

    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...) for raw observations (B, ...)."""
        normalised = self.normaliser.normalize_obs(observations)
        actions: NDArray[Any] = self.model.policy.predict(normalised, deterministic=False)[0]
        return actions

    def normalise_by(self, path: Path) -> None:
        """Takes the statistics of a file that VecNormalize saved. Raises ValueError for another, or another shape."""
        try:
            saved = read_pickle(path.read_bytes())
            if not saved.norm_obs:
                return
            mean, var = np.asarray(saved.obs_rms.mean, float), np.asarray(saved.obs_rms.var, float)
            epsilon, clip = float(saved.epsilon), float(saved.clip_obs)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a file that VecNormalize saved: {first_line(error)}") from error
        shape = self.normaliser.observation_space.shape
        if mean.shape != shape or var.shape != shape:
            raise ValueError(f"{path} has statistics of observations {mean.shape}, those of the agent are {shape}")
        running = extra("stable_baselines3.common.running_mean_std", LIBRARY).RunningMeanStd(shape=shape)
        running.mean, running.var, self.normaliser.obs_rms = mean, var, running
        self.normaliser.norm_obs, self.normaliser.epsilon, self.normaliser.clip_obs = True, epsilon, clip

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


def read_agent(path: Path, environments: Sequence[Recorder], statistics: str = "") -> Agent:
    """An agent that stable-baselines3 saved as a zip file, for raw observations.

    statistics: the file that VecNormalize saved with it; default one beside it, "none" if it takes them as they are.

    Of its pickles only activations and optimisers are taken. Raises ValueError of one sentence: a file is cut short or
    of another kind, the network is described by anything else, statistics are missing, or it does not fit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
        settings = data.get("policy_kwargs", {}) if isinstance(data, dict) else None
        if not isinstance(settings, dict):
            raise ValueError("it does not describe its network")
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path} is cut short, or not an agent that {LIBRARY} saved: {first_line(error)}") from error
    algorithm, settings = _algorithm_of(data), _network_settings(path, settings)
    extra("stable_baselines3", LIBRARY)
    try:
        agent = Agent(algorithm, environments, seed=0, policy_kwargs=settings)
        agent.normaliser.norm_obs = False
        agent.model.set_parameters(path, device="cpu")
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        where = name_of(environments[0])
        raise ValueError(f"{path} is not an agent of {algorithm.upper()}'s for {where}: {first_line(error)}") from error
    if file := _statistics_of(path, algorithm, data, statistics):
        agent.normalise_by(file)
    return agent


def _algorithm_of(data: Mapping[str, Any]) -> str:
    """Which algorithm an agent was saved by, from the settings that only it has; a2c has the fewest."""
    marks = {"policy_delay": "td3", "target_entropy": "sac", "exploration_rate": "dqn", "normalize_advantage": "a2c"}
    return "ppo" if "clip_range" in data else next((name for mark, name in marks.items() if mark in data), "ppo")


def _network_settings(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """How an agent's network is made. Raises ValueError for a class that is neither an activation nor an optimiser."""
    if PICKLED not in settings:
        return dict(settings)
    try:
        read = read_pickle(base64.b64decode(settings[PICKLED]))
        if strange := [name for name, value in read.items() if _is_inert(value)]:
            raise ValueError(f"{strange[0]} is a {settings.get(strange[0], 'class of its own')}")
        return dict(read)
    except (ValueError, AttributeError) as error:
        reason = f"is described by a pickle, which is not read: {first_line(error)}; use a module:function"
        raise ValueError(f"the network of {path} {reason}") from error


def _is_inert(value: Any) -> bool:
    return isinstance(value, Inert) or (isinstance(value, type) and issubclass(value, Inert))


def _statistics_of(path: Path, algorithm: str, data: Mapping[str, Any], given: str) -> Path | None:
    """The statistics that an agent's observations were normalised by; None if they were not.

    On-policy agents keep the observations of their last reset apart exactly if they were trained behind VecNormalize;
    of other agents it is unknown.
    """
    behind = data.get("_last_original_obs") is not None
    if given == "none" or (not given and not behind and algorithm in ON_POLICY):
        return None
    if given:
        return Path(given)
    split = re.fullmatch(r"(.+)_(\d+_steps)", path.stem)
    first, steps = split.groups() if split else (path.stem, "")
    names = (name.format(path.stem, first, f"{steps}.pkl") for name in BESIDE)
    if found := next((path.parent / name for name in names if (path.parent / name).is_file()), None):
        notice(f"{path}: observations are normalised by {found}; --statistics none takes them as they are")
        return found
    remedy = "name the file that it saved with --statistics, or none if observations were not normalised"
    if algorithm in ON_POLICY:
        raise ValueError(f"{path} was trained behind VecNormalize, whose statistics are missing: {remedy}")
    notice(f"{path} may have been trained behind VecNormalize, which it does not tell: {remedy}")
    return None


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
    except (RuntimeError, ValueError, TypeError, LookupError, EOFError, OSError, pickle.UnpicklingError) as error:
        if isinstance(error, OSError) and error.filename:  # it cannot be opened
            raise
        reason = "is damaged, of another version, or of an environment of other spaces"
        raise ValueError(f"{path} {reason}: {first_line(error)}") from error


def _check_spaces(algorithm: str, environment: Recorder) -> Space:
    """The space of observations. Raises ValueError if the algorithm does not handle it, or that of the actions."""
    observed, acted = describe(environment.observation_space), describe(environment.action_space)
    takes = "continuous actions" if algorithm in CONTINUOUS else "one choice" if algorithm in CHOICES else ""
    if takes and acted.kind != ("box" if algorithm in CONTINUOUS else "discrete"):
        raise ValueError(f"policy = {algorithm!r} takes {takes}, those of {name_of(environment)} are {acted}")
    for what, space in (("observations", observed), ("actions", acted)):
        if any(space.start):
            of = f"the {what} of {name_of(environment)} are {space}"
            raise ValueError(f"policy = {algorithm!r} takes choices numbered from 0, {of}")
    return observed
