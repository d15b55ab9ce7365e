"""Episodes as they happen: watched step by step, kept in parts that survive an interruption, joined at the end.

While `data.npz` is being recorded, the folder `data.npz.part` holds `settings.json`, which says what is recorded,
and `episodes-000000.npz`, `episodes-000001.npz` ..., the finished episodes in their order. Each file is whole or
absent, so the same recording can go on after the last of them, whenever it was ended.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from core.cli.errors import Interrupted
from core.cli.signals import StopRequest
from core.files.atomic import remove
from core.files.json_files import read_json, write_json
from decision.data.store import Episode, Trajectories, concatenate, stack
from decision.environments.make import as_declared, name_of, spaces_of

PART_STEPS = 20_000  # a part is written after so many steps,
PART_SECONDS = 30.0  # or after so long, if that is sooner
SETTINGS = "settings.json"


class Recorder(gymnasium.Wrapper):
    """An environment that keeps its episodes, in `finished`, as they end.

    Raises ValueError for an observation or a reward that is not a finite number, and Interrupted instead of another
    step once `stop` was asked for.
    """

    def __init__(self, environment: gymnasium.Env[Any, Any], stop: StopRequest):
        super().__init__(environment)
        self.stop = stop
        self.shown, self.acted = spaces_of(self)
        self.finished: list[Episode] = []
        self._seen: list[NDArray[Any]] = []
        self._taken: list[NDArray[Any]] = []
        self._rewards: list[float] = []
        self._of = ""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; one that was not finished is forgotten."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._seen, self._taken, self._rewards = [self._kept(observation)], [], []
        self._of = "" if seed is None else f" of seed {seed}"
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Goes on, and notes what happened."""
        if self.stop.made:
            raise Interrupted
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._seen.append(self._kept(observation))
        self._taken.append(np.array(action, self.acted.stored))
        self._rewards.append(float(reward))
        if terminated or truncated:
            self.finished.append(self._episode(bool(terminated), bool(truncated)))
        return observation, reward, terminated, truncated, info

    def take(self) -> list[Episode]:
        """The finished episodes, which are then no longer kept."""
        taken, self.finished = self.finished, []
        return taken

    def _kept(self, observation: Any) -> NDArray[Any]:
        """A copy, since an environment may write its next observation over this one."""
        return as_declared(self, observation, self.shown).astype(self.shown.stored)

    def _episode(self, terminated: bool, truncated: bool) -> Episode:
        seen, rewards = np.stack(self._seen), np.array(self._rewards, np.float32)
        for what, values in (("an observation", seen), ("a reward", rewards)):
            for step in np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1)).tolist():
                raise ValueError(
                    f"{name_of(self)} gave {what} that is not finite, at step {step} of the episode{self._of}"
                )
        return Episode(seen[:-1], np.stack(self._taken), rewards, terminated, truncated, seen[-1])


class Recording:
    """A recording under way to the file `target`, its finished episodes in order."""

    def __init__(self, target: Path, settings: Mapping[str, Any], about: Mapping[str, Any]):
        """Begins one, or goes on with one that was ended before its time.

        settings: what makes this recording what it is, as JSON values. about: environment and spaces.

        Raises ValueError when the target exists, or what was ended has other settings.
        """
        if target.exists():
            raise ValueError(f"{target} exists already: remove it, or name another --out")
        self.target, self.folder, self.about = target, target.with_name(f"{target.name}.part"), dict(about)
        self.settings = dict(settings)
        self._check()
        self._waiting: list[Episode] = []
        self._held = 0  # steps of them
        self._returns: list[NDArray[np.float64]] = []
        self._steps: list[int] = []
        for number, path in enumerate(self._parts()):
            if path != self._part(number):
                raise ValueError(
                    f"{self._part(number)} is missing: remove the folder to begin anew, or name another --out"
                )
            self._count(Trajectories.load(path))
        self._written = time.monotonic()

    @property
    def parts(self) -> int:
        """How many are written."""
        return len(self._steps)

    @property
    def steps(self) -> int:
        """Of all finished episodes."""
        return sum(self._steps) + self._held

    @property
    def returns(self) -> NDArray[np.float64]:
        """Of all finished episodes."""
        fresh = [float(episode.rewards.sum(dtype=np.float64)) for episode in self._waiting]
        return np.concatenate([*self._returns, fresh])

    @property
    def due(self) -> bool:
        """Whether it is time to `flush`."""
        return self._held >= PART_STEPS or time.monotonic() - self._written > PART_SECONDS

    def add(self, episodes: Sequence[Episode]) -> None:
        """Takes finished episodes."""
        self._waiting += episodes
        self._held += sum(len(episode.rewards) for episode in episodes)

    def flush(self) -> None:
        """Writes what was taken since the last part as another part, and whose parts they are."""
        if not (path := self.folder / SETTINGS).exists():
            write_json(path, self.settings)
        if self._waiting:
            data = stack(self._waiting, **self.about)
            data.save(self._part(self.parts))
            self._count(data)
        self._waiting, self._held, self._written = [], 0, time.monotonic()

    def rewind(self, parts: int) -> None:
        """Forgets all but the first `parts` parts."""
        for path in self._parts()[parts:]:
            remove(path)
        self._waiting, self._held = [], 0
        self._returns, self._steps = self._returns[:parts], self._steps[:parts]

    def kept(self) -> Trajectories:
        """The episodes of all parts that are written, of which there must be one."""
        return concatenate([Trajectories.load(path) for path in self._parts()], {})

    def finish(self, steps: int | None = None, **about: Any) -> Trajectories:
        """Joins the first episodes that hold `steps` steps (None: all) to the target; removes the parts.

        about: provenance and reference. Raises ValueError when there is no episode.
        """
        self.flush()
        if not self.parts:
            raise ValueError("there is no finished episode to keep")
        data = self.kept()
        if steps is not None:
            data = data.select(range(min(len(data), int(np.searchsorted(data.offsets, steps)))))
        data = replace(data, **about)
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

    def _check(self) -> None:
        path = self.folder / SETTINGS
        if path.exists() and (known := read_json(path)) != self.settings:
            name = next(name for name in (*self.settings, *known) if known.get(name) != self.settings.get(name))
            raise ValueError(
                f"{self.folder} was begun with {name} = {known.get(name)!r}, not {self.settings.get(name)!r}: "
                f"repeat that command to go on, remove the folder to begin anew, or name another --out"
            )
