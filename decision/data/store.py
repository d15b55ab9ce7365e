"""Trajectories: plain arrays, one episode after another, in memory and in one compact file."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.files.atomic import atomic_write
from core.files.serialize import from_dict, to_dict
from decision.environments.settings import AS_REGISTERED, EnvSettings
from decision.environments.spaces import Space, differences

FORMATS = (1, 2)  # the last is written; the first has no settings
HEADER = "header.json"
ARRAYS = ("observations", "actions", "rewards", "terminated", "truncated", "offsets", "final_observations")
NESTED = {"observation_space": Space, "action_space": Space, "settings": EnvSettings}
FINEST = 1e-3
LEAST_STD = 1e-6
"""A number of smaller deviation counts as constant: it is centred, but not scaled."""
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, TypeError, RuntimeError, OSError)
"""What reading a damaged file may raise."""


class Episode(NamedTuple):
    """One episode, from the reset to its end: T steps."""

    observations: NDArray[Any]
    """Before each action: (T, ...)."""
    actions: NDArray[Any]
    """As the environment takes them: (T, ...)."""
    rewards: NDArray[Any]
    """(T,)."""
    terminated: bool
    """Whether the task itself ended."""
    truncated: bool
    """Whether it was cut off by something else, such as a time limit."""
    final_observation: NDArray[Any] | None
    """After the last action: (...); None where the source lacks it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Trajectories:
    """A sequence of E episodes, N steps in all; arrays are converted to the types named here.

    Raises ValueError of one sentence: no episode, a number that is not finite (with its episode and step), a choice
    out of range, a shape other than the space's, an episode that does not end where it should.
    """

    observations: NDArray[Any]
    """Before each action: float32, float64, uint8 or int64 (N, *shape), see `Space.stored`."""
    actions: NDArray[Any]
    """As the environment takes them: float32 or int64 (N, *shape)."""
    rewards: NDArray[np.float32]
    """(N,)."""
    terminated: NDArray[np.bool_]
    """Whether the task itself ended at a step: (N,)."""
    truncated: NDArray[np.bool_]
    """Whether an episode was cut off at a step, by a time limit or otherwise: (N,)."""
    offsets: NDArray[np.int64]
    """Episode e is the steps offsets[e] ... offsets[e + 1] - 1: (E + 1,)."""
    environment: str
    """Gymnasium's id, "" if unknown."""
    observation_space: Space
    action_space: Space
    final_observations: NDArray[Any] | None = None
    """After the last action of each episode: (E, *shape); None where the source lacks them."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the data comes from, as JSON values."""
    reference: tuple[float, float] | None = None
    """Returns of a random and of an expert policy, which score 0 and 100."""
    settings: EnvSettings = AS_REGISTERED
    """How the environment is made beyond its id."""

    def __post_init__(self) -> None:
        self._keep_precision()
        observed, acted = self.observation_space, self.action_space
        self._convert("offsets", np.int64)
        if self.offsets.ndim != 1 or len(self.offsets) < 2:
            raise ValueError("there is no episode")
        if self.offsets[0] != 0 or (np.diff(self.offsets) < 1).any():
            raise ValueError("offsets must rise from 0, each episode having at least one step")
        for name, kind, shape in (
            ("observations", observed.stored, observed.shape),
            ("actions", acted.stored, acted.shape),
            ("rewards", np.float32, ()),
            ("terminated", np.bool_, ()),
            ("truncated", np.bool_, ()),
        ):
            self._convert(name, kind, (self.steps, *shape))
        if self.final_observations is not None:
            self._convert("final_observations", observed.stored, (len(self), *observed.shape))
        self._check_ends()
        self._check_values()
        if self.reference is not None and not (np.isfinite(self.reference).all() and len(set(self.reference)) == 2):
            raise ValueError(f"reference = {self.reference} must be two different finite numbers")

    @property
    def steps(self) -> int:
        """N."""
        return int(self.offsets[-1])

    def __len__(self) -> int:
        """E."""
        return len(self.offsets) - 1

    def __getitem__(self, episode: int) -> Episode:
        """One episode, its arrays as views."""
        start, stop = self.offsets[range(len(self))[episode] :][:2]
        steps, ends = slice(start, stop), (bool(self.terminated[stop - 1]), bool(self.truncated[stop - 1]))
        final = None if self.final_observations is None else self.final_observations[episode]
        return Episode(self.observations[steps], self.actions[steps], self.rewards[steps], *ends, final)

    def __iter__(self) -> Iterator[Episode]:
        return (self[e] for e in range(len(self)))

    def lengths(self) -> NDArray[np.int64]:
        """Steps of each episode: (E,)."""
        return np.diff(self.offsets)

    def returns(self) -> NDArray[np.float64]:
        """Sum of the rewards of each episode: (E,)."""
        return np.add.reduceat(self.rewards.astype(np.float64), self.offsets[:-1])

    def returns_to_go(self) -> NDArray[np.float64]:
        """R_t = r_t + r_t+1 + ... to the end of the episode (Chen 2021, section 3): (N,)."""
        sums = np.empty(self.steps, np.float64)
        for start, stop in pairwise(self.offsets.tolist()):
            sums[start:stop] = np.cumsum(self.rewards[start:stop][::-1], dtype=np.float64)[::-1]
        return sums

    def fingerprint(self) -> str:
        """SHA-256 of everything that a model may learn from."""
        digest = hashlib.sha256(self.environment.encode())
        for name in ARRAYS[:6]:
            digest.update(getattr(self, name).data)
        return digest.hexdigest()

    def select(self, episodes: Iterable[int]) -> Trajectories:
        """The episodes at these indices, in that order."""
        return stack([self[e] for e in episodes], **self.metadata())

    def metadata(self) -> dict[str, Any]:
        """All but the arrays: environment and its settings, spaces, provenance, reference."""
        names = ("environment", "observation_space", "action_space", "provenance", "reference", "settings")
        return {name: getattr(self, name) for name in names}

    def top(self, percent: float) -> Trajectories:
        """The episodes of highest return that hold at most `percent` % of all steps, but at least one episode.

        %BC learns from these (Chen 2021, section 5.1). Raises ValueError for a percentage outside (0, 100].
        """
        if not 0 < percent <= 100:
            raise ValueError(f"percent = {percent!r} must be above 0 and at most 100")
        best = np.argsort(-self.returns(), kind="stable")
        steps = np.cumsum(self.lengths()[best])
        number = np.searchsorted(steps, percent / 100 * self.steps, side="right")
        return self.select(np.sort(best[: max(1, number)]).tolist())

    def save(self, path: Path) -> None:
        """Writes the native file atomically: compressed .npy arrays and a JSON header in a zip archive."""
        names = [name for name in ARRAYS if getattr(self, name) is not None]
        plain = {name: to_dict(getattr(self, name)) for name in NESTED}
        header = {"format": FORMATS[-1], "arrays": names} | self.metadata() | plain
        header["provenance"] = dict(self.provenance)
        with atomic_write(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open(HEADER, "w") as file:  # has no date, so that equal data makes equal files
                file.write(json.dumps(header, allow_nan=False).encode())
            for name in names:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, getattr(self, name), allow_pickle=False)

    @classmethod
    def load(cls, path: Path) -> Trajectories:
        """Reads what `save` wrote; nothing in it can execute code.

        Raises ValueError of one sentence for a file that is empty, cut short, damaged or of another kind, and OSError
        for one that cannot be opened.
        """
        if not path.stat().st_size:
            raise ValueError(f"{path} is empty")
        file = path.open("rb")  # an OSError of opening is not one of reading
        try:
            with file, zipfile.ZipFile(file) as archive:
                if HEADER not in archive.namelist():
                    raise ValueError(f"it has no {HEADER}")
                header = json.loads(archive.read(HEADER))
                if not isinstance(header, dict) or header.pop("format", None) not in FORMATS:
                    raise ValueError(f"its format is not one of {FORMATS}, which this version reads")
                arrays = {name: _read(archive, name) for name in header.pop("arrays")}
            header.setdefault("settings", {})
            for name, kind in NESTED.items():
                header[name] = from_dict(kind, header[name])
            header["reference"] = tuple(header["reference"]) if header["reference"] else None
        except UNREADABLE as error:
            raise ValueError(f"{path} is cut short or damaged, or not a file of trajectories: {error}") from error
        try:
            return cls(**header, **arrays)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    def _convert(self, name: str, kind: Any, shape: tuple[int, ...] | None = None) -> None:
        """Makes an array contiguous and of the type that it is stored in; refuses another shape."""
        array = np.asarray(getattr(self, name))
        if not np.can_cast(array.dtype, kind, "same_kind"):
            raise ValueError(f"{name} of type {array.dtype} cannot be stored as {np.dtype(kind)}")
        with np.errstate(over="ignore"):  # numbers that are too large become infinite, which is refused later
            object.__setattr__(self, name, np.ascontiguousarray(array, kind).reshape(array.shape))
        if shape not in (None, array.shape):
            raise ValueError(f"{name} have shape {array.shape} instead of {shape}")
        if np.dtype(kind).kind in "iu" and (lost := getattr(self, name) != array).any():
            raise ValueError(f"{name} have {array[lost].flat[0]}, which cannot be stored as {np.dtype(kind)}")

    def _keep_precision(self) -> None:
        """Stores observations in float64 if float32 would lose more than a thousandth of their deviation."""
        array, space = np.asarray(self.observations), self.observation_space
        if space.stored != np.float32 or array.dtype.kind not in "fiu" or np.can_cast(array.dtype, np.float32):
            return
        with np.errstate(over="ignore", invalid="ignore"):
            rows = array.reshape(len(array), -1).astype(np.float64)  # (N, size)
            rounding, deviation = np.spacing(np.abs(rows).max(axis=0).astype(np.float32)), rows.std(axis=0)
        if ((rounding > FINEST * deviation) & (deviation >= LEAST_STD)).any():
            object.__setattr__(self, "observation_space", replace(space, precision="float64"))

    def _check_ends(self) -> None:
        """Every episode ends where it is terminated or truncated, and nowhere else."""
        expected = np.zeros(self.steps, np.bool_)
        expected[self.offsets[1:] - 1] = True
        for step in np.flatnonzero(expected != (self.terminated | self.truncated)).tolist():
            what = "is the last but neither" if expected[step] else "is not the last but"
            raise ValueError(f"{self._place(step)} {what} terminated or truncated")

    def _check_values(self) -> None:
        for name, space in (("observations", self.observation_space), ("actions", self.action_space)):
            values = getattr(self, name).reshape(self.steps, -1)  # (N, size)
            if space.kind == "box":
                self._check_finite(name, values)
            else:
                first, counts = np.array(space.start), np.array(space.counts)
                for step in np.flatnonzero(((values < first) | (values >= first + counts)).any(1)).tolist():
                    raise ValueError(f"{name}: {values[step]} at {self._place(step)} is not in {space}")
        self._check_finite("rewards", self.rewards[:, None])
        finals = self.final_observations
        if finals is not None and not (good := np.isfinite(finals.reshape(len(self), -1)).all(1)).all():
            raise ValueError(f"final_observations: episode {np.argmin(good)} has a number that is not finite")

    def _check_finite(self, name: str, values: NDArray[Any]) -> None:
        if values.dtype.kind == "f" and not (good := np.isfinite(values).all(1)).all():
            step = int(np.argmin(good))
            bad = values[step][~np.isfinite(values[step])][0]
            raise ValueError(f"{name}: {self._place(step)} has {bad}, which is not a finite number")

    def _place(self, step: int) -> str:
        """Where a step is, for an error."""
        episode = int(np.searchsorted(self.offsets, step, side="right")) - 1
        return f"step {step - self.offsets[episode]} of episode {episode}"


def stack(episodes: Sequence[Episode], **metadata: Any) -> Trajectories:
    """Episodes one after another, see `Trajectories.metadata`. Raises ValueError as `Trajectories` does."""
    if not episodes:
        raise ValueError("there is no episode")
    lengths = [len(episode.rewards) for episode in episodes]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ends = np.zeros((2, offsets[-1]), np.bool_)
    ends[:, offsets[1:] - 1] = [[e.terminated for e in episodes], [e.truncated for e in episodes]]
    finals: list[Any] = [e.final_observation for e in episodes]
    return Trajectories(
        observations=np.concatenate([e.observations for e in episodes]),
        actions=np.concatenate([e.actions for e in episodes]),
        rewards=np.concatenate([e.rewards for e in episodes]),
        terminated=ends[0],
        truncated=ends[1],
        offsets=offsets,
        final_observations=None if any(final is None for final in finals) else np.stack(finals),
        **metadata,
    )


def concatenate(parts: Sequence[Trajectories], provenance: Mapping[str, Any]) -> Trajectories:
    """Data sets of one environment, one after another; the reference is that of the first that has one.

    Raises ValueError for different environments or spaces, saying which data set differs.
    """
    first = parts[0]
    for number, part in enumerate(parts[1:], start=2):
        if part.environment != first.environment:
            raise ValueError(f"data set {number} is of {part.environment!r}, the first of {first.environment!r}")
        for name, reason in part.settings.differences(first.settings):
            raise ValueError(f"data set {number} was recorded with {name} = {reason} as the first was")
        spaces = ((each.observation_space, each.action_space) for each in (part, first))
        for _, reason in differences(*spaces):
            raise ValueError(f"data set {number} does not fit the first: {reason}")
    metadata = first.metadata() | {"provenance": provenance}
    metadata["reference"] = next((part.reference for part in parts if part.reference), None)
    return stack([episode for part in parts for episode in part], **metadata)


def _read(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(f"{name}.npy") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise EOFError(f"{name}.npy holds more than its array")
        return array
