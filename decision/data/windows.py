"""Windows of trajectories: what a model reads, and which windows belong to which training step."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.checks import check_positive
from core.devices import to_device
from core.training.order import Indices, share, shuffled
from decision.data.store import Trajectories
from decision.data.summary import Normaliser


class Window(NamedTuple):
    """K successive steps of each of B episodes; rows with fewer steps are padded at the end."""

    returns: Tensor
    """Return-to-go, scaled: float32 (B, K, 1)."""
    observations: Tensor
    """Normalised float32 (B, K, ...); images uint8 as they are; discrete ones int64 (B, K) or (B, K, N)."""
    actions: Tensor
    """As the environment takes them: float32 (B, K, ...), or int64 (B, K) or (B, K, N)."""
    timesteps: Tensor
    """Steps since the beginning of the episode, 0 at padding: int64 (B, K)."""
    lengths: Tensor
    """Steps of each row, without padding: int64 (B,)."""

    def valid(self) -> Tensor:
        """Which steps are not padding: bool (B, K)."""
        return torch.arange(self.timesteps.shape[1], device=self.lengths.device) < self.lengths.unsqueeze(1)


@dataclass(frozen=True, eq=False)
class WindowOrder:
    """Which windows of `context` steps a training step takes; each lies within one episode.

    Every step of the data begins one window an epoch. So an episode is drawn in proportion to its length, and a window
    may begin anywhere in it, as in the code of the paper; where the episode ends sooner, the window is padded.

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
        check_positive(self, "context", "batch_size")

    def batch(self, step: int, rank: int = 0, world: int = 1, accumulate: int = 1) -> list[Window]:
        """The micro-batches of a rank at a step: `accumulate` windows of b rows.

        b = batch_size / (world * accumulate). Together, the micro-batches of all ranks are the same global batch for
        any number of ranks. Raises ValueError if that does not divide.
        """
        starts = shuffled(self.seed, step, self.batch_size, self.data.steps)
        return [self._cut(part) for part in share(starts, rank, world, accumulate)]

    def _cut(self, starts: Indices) -> Window:
        """The windows that begin at steps `starts` (b,) of the data."""
        offsets = self.data.offsets
        episodes = np.searchsorted(offsets, starts, side="right") - 1
        lengths = np.minimum(self.context, offsets[episodes + 1] - starts)
        numbers = torch.from_numpy(np.stack([starts, starts - offsets[episodes], lengths]))  # (3, b)
        first, elapsed, length = to_device(numbers, torch.device(self.device)).unsqueeze(-1)  # (b, 1) each
        ahead = torch.arange(self.context, device=self.device)  # (K,)
        padding = ahead >= length  # (b, K)
        rows = (first + torch.minimum(ahead, length - 1)).flatten()
        returns, observations, actions = (x.index_select(0, rows).unflatten(0, padding.shape) for x in self._arrays)
        return Window(
            _blank(returns, padding),
            _blank(self.normaliser.observations(observations), padding),
            _blank(actions, padding),
            _blank(elapsed + ahead, padding),
            length.squeeze(-1),
        )

    @cached_property
    def _arrays(self) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled returns-to-go (N, 1), raw or centred observations and actions (N, ...), on the device."""
        returns = self.normaliser.returns(torch.from_numpy(self.data.returns_to_go())).unsqueeze(-1)
        observations = self.normaliser.centred(torch.from_numpy(self.data.observations))
        actions = torch.from_numpy(self.data.actions)
        return returns.to(self.device), observations.to(self.device), actions.to(self.device)


def _blank(x: Tensor, padding: Tensor) -> Tensor:
    """Zeros at padding: x (b, K, ...), padding bool (b, K)."""
    return x.masked_fill(padding.view(*padding.shape, *[1] * (x.ndim - 2)), 0)
