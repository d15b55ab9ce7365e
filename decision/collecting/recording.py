"""A recording on disk: in parts, which survive an interruption and are joined at the end.

While `data.npz` is being recorded, the folder `data.npz.part` has `settings.json`, which says what is recorded, and
`episodes-000000.npz`, `episodes-000001.npz` ..., the finished episodes in order. Each file is whole or absent, so that
a recording can continue after the last of them, however it was ended.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.files.atomic import remove
from core.files.json_files import read_json, write_json
from decision.data.store import Episode, Trajectories, concatenate, stack

PART_STEPS = 20_000  # a part is written after so many steps,
PART_SECONDS = 30.0  # or after so much time, whichever comes first
SETTINGS = "settings.json"


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
        self._check_settings()
        self._unsaved: list[Episode] = []
        self._unsaved_steps = 0
        self._returns: list[NDArray[np.float64]] = []  # of each part
        self._steps: list[int] = []  # of each part
        for number, path in enumerate(self._parts()):
            if path != self._part(number):
                raise ValueError(
                    f"{self._part(number)} is missing: remove the folder to begin anew, or name another --out"
                )
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

    def _check_settings(self) -> None:
        path = self.folder / SETTINGS
        if path.exists() and (saved := read_json(path)) != self.settings:
            name = next(name for name in (*self.settings, *saved) if saved.get(name) != self.settings.get(name))
            raise ValueError(
                f"{self.folder} was begun with {name} = {saved.get(name)!r}, not {self.settings.get(name)!r}: "
                f"repeat that command to continue, remove the folder to begin anew, or name another --out"
            )
