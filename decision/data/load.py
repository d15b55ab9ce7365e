"""From a name or a file to batches of windows, and what a run keeps of its data."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.devices import to_device
from core.files.downloads import data_root
from core.training.order import Indices, share, shuffled
from decision.data.normaliser import Normaliser
from decision.data.sources import D4RL, MINARI, read_d4rl, read_minari
from decision.data.store import ARRAYS, Trajectories
from decision.environments.spaces import Space
from decision.models.tokens import Window, returns_to_go

__all__ = ["Normaliser", "Summary", "Trajectories", "Windows", "default_targets", "load_data", "normalised"]

ACCEPTED = f"a file that decision.collect wrote, {MINARI}NAME-vN, or a .hdf5 file of D4RL's"
OCCURRING: Literal["inverted_cdf"] = "inverted_cdf"
"""Percentiles of returns are returns that occur, none between two of them."""
REFERENCES = {
    "hopper": (-20.272305, 3234.3),
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
}
"""D4RL's returns of a random and of an expert policy (Fu 2020), by environment, whatever its version."""


def load_data(name: str | Path, root: Path | None = None) -> Trajectories:
    """The data set that `name` names.

    - a file that `decision.collect` wrote, as a path or as a path under `root` (default: `data_root()`);
    - `minari:NAME`, a local Minari data set, else downloaded;
    - a `.hdf5` file of D4RL's.

    Its reference is D4RL's where there is one for the environment, else its own.
    Raises ValueError of one sentence: there is no such thing, or it is damaged.
    """
    if str(name).startswith(MINARI):
        return read_minari(str(name).removeprefix(MINARI))
    path = Path(name).expanduser()
    path = path if path.exists() else (root or data_root()) / path
    if str(name) and path.is_dir():
        raise ValueError(f"{path} is a folder; accepted are: {ACCEPTED}")
    if not path.is_file():
        raise ValueError(f"there is no data {str(name)!r}; accepted are: {ACCEPTED}")
    return read_d4rl(path) if path.suffix.lower() in D4RL else Trajectories.load(path)


def reference_scores(environment: str) -> tuple[float, float] | None:
    """D4RL's returns of a random and of an expert policy in an environment; None where it has none."""
    family = re.fullmatch(r"(\w+?)(-v\d+)?", environment)
    return REFERENCES.get(family[1].lower()) if family else None


def normalised(returns: NDArray[np.float64], reference: tuple[float, float]) -> NDArray[np.float64]:
    """Scores of returns (Fu 2020, section 4): 0 as a random policy, 100 as an expert."""
    random, expert = reference
    return 100 * (returns - random) / (expert - random)


def default_targets(returns: NDArray[np.float64]) -> dict[str, float]:
    """Returns worth asking for, by name, given those of the data (E,): median, 90 %, max, and 20 % more.

    20 % of the size of the best, so that more is asked for than a negative one as well.
    """
    median, high, best = np.percentile(returns, (50, 90, 100), method=OCCURRING).tolist()
    return {"median": median, "90 %": high, "max": best, "max + 20 %": best + 0.2 * abs(best)}


@dataclass(frozen=True)
class Summary:
    """What a run keeps of its data, as plain values."""

    environment: str
    """Gymnasium's id, "" if unknown."""
    observation_space: Space
    action_space: Space
    normaliser: Normaliser
    reference: tuple[float, float] | None
    """Returns of a random and of an expert policy."""
    episodes: int
    steps: int
    longest: int
    """Steps of the longest episode."""
    returns: tuple[float, ...]
    """The returns' percentiles 0, 1, ... 100, each one that an episode has."""
    fingerprint: str
    """SHA-256 by which the data is known to be the same."""

    def __post_init__(self) -> None:
        if len(self.returns) != 101 or not np.isfinite(self.returns).all():
            raise ValueError(f"returns of {len(self.returns)} numbers must be 101, all finite")

    @classmethod
    def of(cls, data: Trajectories) -> Summary:
        """The summary of a data set."""
        return cls(
            environment=data.environment,
            observation_space=data.observation_space,
            action_space=data.action_space,
            normaliser=Normaliser.of(data),
            reference=reference_scores(data.environment) or data.reference,
            episodes=len(data),
            steps=data.steps,
            longest=int(data.lengths().max()),
            returns=tuple(np.percentile(data.returns(), np.arange(101), method=OCCURRING).tolist()),
            fingerprint=fingerprint(data),
        )


def fingerprint(data: Trajectories) -> str:
    """SHA-256 of everything in a data set that a model may learn from."""
    digest = hashlib.sha256(data.environment.encode())
    for name in ARRAYS[:6]:
        digest.update(getattr(data, name).data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of `context` steps, each within one episode, padded at the left where the episode ends sooner.

    Every step of the data begins one window an epoch, so that an episode is met in proportion to its length and a
    window begins anywhere in it, as in the paper's code.

    batch_size: windows of one optimiser step, over all processes and micro-batches.
    device: where the data is held and windows are cut.

    Raises ValueError for a context or a batch size below 1.
    """

    data: Trajectories
    normaliser: Normaliser
    context: int
    batch_size: int
    seed: int = 0
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        for name in ("context", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def batch(self, step: int, rank: int = 0, world: int = 1, accumulate: int = 1) -> list[Window]:
        """The micro-batches of a rank at a step: `accumulate` windows of b rows.

        b = batch_size / (world * accumulate); together, the ranks' micro-batches are one global batch, whatever
        their number. Raises ValueError if that does not divide.
        """
        starts = shuffled(self.seed, step, self.batch_size, self.data.steps)
        return [self._cut(part) for part in share(starts, rank, world, accumulate)]

    def _cut(self, starts: Indices) -> Window:
        """The windows that begin at steps `starts` (b,) of the data."""
        offsets = self.data.offsets
        episodes = np.searchsorted(offsets, starts, side="right") - 1
        pads = np.maximum(self.context - (offsets[episodes + 1] - starts), 0)
        numbers = torch.from_numpy(np.stack([starts, starts - offsets[episodes], pads]))  # (3, b)
        first, elapsed, padding = to_device(numbers, torch.device(self.device)).unsqueeze(-1)  # (b, 1) each
        ahead = torch.arange(self.context, device=self.device) - padding  # (b, K): below 0 at padding
        rows = (first + ahead.clamp(min=0)).flatten()
        returns, observations, actions = (x.index_select(0, rows).unflatten(0, ahead.shape) for x in self._held)
        observations, blank = self.normaliser.observations(observations), ahead < 0
        return Window(
            _blank(returns, blank),
            _blank(observations, blank),
            _blank(actions, blank),
            _blank(elapsed + ahead, blank),
            padding.squeeze(-1),
        )

    @cached_property
    def _held(self) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled returns-to-go (N, 1), raw observations and actions (N, ...), on the device."""
        data = self.data
        togo = self.normaliser.returns(torch.from_numpy(returns_to_go(data.rewards, data.offsets)))
        arrays = (togo.unsqueeze(-1), torch.from_numpy(data.observations), torch.from_numpy(data.actions))
        held = tuple(x.to(self.device) for x in arrays)
        return held[0], held[1], held[2]


def _blank(x: Tensor, padding: Tensor) -> Tensor:
    """Zeros at padding: x (b, K, ...), padding bool (b, K)."""
    return x.masked_fill(padding.view(*padding.shape, *[1] * (x.ndim - 2)), 0)
