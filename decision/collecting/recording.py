"""Policies that data is collected with; environments that record their episodes; recordings that survive interruptions.

While `data.npz` is being recorded, the folder `data.npz.part` has `settings.json`, which says what is recorded, and
`episodes-000000.npz`, `episodes-000001.npz` ..., the finished episodes in order. Each file is whole or absent, so that
a recording can continue after the last of them, however it was ended.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import FlattenObservation
from numpy.typing import NDArray

from core.cli.exits import Interrupted, StopRequest
from core.files.atomic import remove
from core.files.json_files import read_json, write_json
from core.messages import first_line
from core.training.order import stream
from decision.acting.episodes import BatchPolicy, play, require_end
from decision.data.store import Episode, Trajectories, concatenate, stack
from decision.environments.checked import Checked
from decision.environments.make import spaces_of
from decision.environments.observations import as_array, name_of
from decision.environments.spaces import Space

PART_STEPS = 20_000  # a part is written after so many steps,
PART_SECONDS = 30.0  # or after so much time, whichever comes first
SETTINGS = "settings.json"
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
    """A function from what an environment shows, a dictionary too, to an action; continuous ones are clipped."""

    def __init__(self, name: str, function: Callable[[Any], Any], space: Space, shown: Sequence[Shown]):
        self.name, self.function, self.space, self.shown = name, function, space, shown
        self.gym = space.gym()

    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...). Raises ValueError for a result that is not an action of the environment."""
        return np.stack([self._act(each.observation) for each in self.shown])

    def keep(self, rows: Sequence[int]) -> None:
        """Continues with these of the episodes only."""
        self.shown = [self.shown[row] for row in rows]

    def _act(self, observation: Any) -> NDArray[Any]:
        result = self.function(observation)
        try:
            action = np.asarray(result).reshape(self.space.shape)
            if self.space.kind == "box":
                action = np.clip(action.astype(self.space.dtype), *self.space.bounds()).astype(self.space.dtype)
            elif (action.astype(self.space.dtype) == action).all() and action.dtype.kind in "iu":
                action = action.astype(self.space.dtype)  # which a space of choices insists on
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


def find_behaviour(policy: str, recorders: Sequence[Recorder]) -> Behaviour:
    """The policy of a name: `random`, or `module:function`. Raises ValueError of one sentence for anything else."""
    if policy == "random":
        return lambda seeds: RandomPolicy(recorders[0].acted, seeds)
    if ":" in policy and not Path(policy).exists():
        function, shown = import_function(policy), [Shown.inside(recorder) for recorder in recorders]
        return lambda seeds: FunctionPolicy(policy, function, recorders[0].acted, shown[: len(seeds)])
    accepted = "random, ppo, sac, a2c, dqn, td3, module:function, an agent.zip or .pt, a run folder of decision.train"
    raise ValueError(f"policy = {policy!r} is not one of: {accepted}")


class Shown(gymnasium.Wrapper):
    """An environment that keeps its last observation, before anything is made of it."""

    observation: Any = None

    @classmethod
    def inside(cls, outermost: gymnasium.Wrapper[Any, Any, Any, Any]) -> Shown:
        """Wraps what is inside `outermost`, the check of observations, and the wrapper that flattens dictionaries."""
        place = outermost
        while isinstance(place.env, (Checked, FlattenObservation)):
            place = place.env
        if not isinstance(place.env, cls):
            place.env = cls(place.env)
        return place.env

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        self.observation, info = self.env.reset(**settings)
        return self.observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.observation, *rest = self.env.step(action)
        return self.observation, *rest


class Recorder(gymnasium.Wrapper):
    """An environment that keeps its episodes, in `finished`, as they end.

    Raises ValueError for an observation or a reward that is not a finite number and an episode without end, and
    Interrupted instead of another step once `stop` has been requested.
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
        require_end(self, len(self._rewards))
        if self.acted.kind != "box":  # of its own type, which spaces of choices insist on
            action = np.asarray(action).astype(self.acted.dtype)[()]
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
        return as_array(self, observation, self.observed).astype(self.observed.observed)

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


class Recording:
    """A recording to the file `target`, with its finished episodes in order."""

    def __init__(self, target: Path, settings: Mapping[str, Any], metadata: Mapping[str, Any]):
        """Begins a recording, or continues an interrupted one.

        settings: what the recording is defined by, as JSON values. metadata: environment and spaces.

        Raises ValueError when the target exists, or the interrupted recording has other settings.
        """
        if target.exists():
            raise ValueError(f"{target} exists already: remove it, or name another --out")
        self.target, self.folder, self.metadata = target, target.with_name(f"{target.name}.part"), dict(metadata)
        self.settings = dict(settings)
        path = self.folder / SETTINGS
        if path.exists() and (saved := read_json(path)) != self.settings:
            name = next(name for name in (*self.settings, *saved) if saved.get(name) != self.settings.get(name))
            raise ValueError(
                f"{self.folder} was begun with {name} = {saved.get(name)!r}, not {self.settings.get(name)!r}: "
                f"repeat that command to continue, remove the folder to begin anew, or name another --out"
            )
        self._unsaved: list[Episode] = []
        self._unsaved_steps = 0
        self._returns: list[NDArray[np.float64]] = []  # of each part
        self._steps: list[int] = []  # of each part
        for number, path in enumerate(self._parts()):
            if path != self._part(number):
                remedy = "remove the folder to begin anew, or name another --out"
                raise ValueError(f"{self._part(number)} is missing: {remedy}")
            self._count(Trajectories.load(path))
        self._saved_at = time.monotonic()

    @property
    def steps(self) -> int:
        """Steps of all finished episodes."""
        return sum(self._steps) + self._unsaved_steps

    @property
    def returns(self) -> NDArray[np.float64]:
        """Returns of all finished episodes."""
        unsaved = [float(episode.rewards.sum(dtype=np.float64)) for episode in self._unsaved]
        return np.concatenate([*self._returns, unsaved])

    @property
    def due(self) -> bool:
        """Whether it is time to `flush`."""
        return self._unsaved_steps >= PART_STEPS or time.monotonic() - self._saved_at > PART_SECONDS

    def add(self, episodes: Sequence[Episode]) -> None:
        """Adds finished episodes."""
        self._unsaved += episodes
        self._unsaved_steps += sum(len(episode.rewards) for episode in episodes)

    def flush(self) -> None:
        """Writes the episodes since the last part as another part."""
        if not (path := self.folder / SETTINGS).exists():
            write_json(path, self.settings)
        if self._unsaved:
            data = stack(self._unsaved, **self.metadata)
            data.save(self._part(len(self._steps)))
            self._count(data)
        self._unsaved, self._unsaved_steps, self._saved_at = [], 0, time.monotonic()

    def finish(self, steps: int | None = None, **metadata: Any) -> Trajectories:
        """Joins the first episodes that have `steps` steps (None: all) in the target, and removes the parts.

        metadata: provenance and reference. Raises ValueError when there is no episode.
        """
        self.flush()
        if not self._steps:
            raise ValueError("there is no finished episode to keep")
        data = concatenate([Trajectories.load(path) for path in self._parts()], {})
        if steps is not None:
            data = data.select(range(min(len(data), int(np.searchsorted(data.offsets, steps)))))
        data = replace(data, **metadata)
        data.save(self.target)
        remove(self.folder)
        return data

    def _count(self, part: Trajectories) -> None:
        self._returns.append(part.returns())
        self._steps.append(part.steps)

    def _part(self, number: int) -> Path:
        return self.folder / f"episodes-{number:06d}.npz"

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("episodes-*.npz"))
