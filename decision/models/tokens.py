"""Trajectories become tokens: (return-to-go, state, action) of one step after another."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decision.models.encoders import build_action_encoder, build_encoder

if TYPE_CHECKING:
    from decision.models.decision_transformer import DecisionConfig


def returns_to_go(rewards: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """R_t = r_t + r_t+1 + ... to the end of the episode (Chen 2021, section 3): rewards (N,) -> float64 (N,).

    offsets: int64 (E + 1,); episode e is the steps offsets[e] ... offsets[e + 1] - 1.
    """
    found = np.empty(len(rewards), np.float64)
    for start, stop in pairwise(offsets.tolist()):
        found[start:stop] = np.cumsum(rewards[start:stop][::-1], dtype=np.float64)[::-1]
    return found


class Window(NamedTuple):
    """K successive steps of each of B episodes; a row that has fewer is padded at the left."""

    returns: Tensor
    """Return-to-go, scaled: float32 (B, K, 1)."""
    observations: Tensor
    """Normalised float32 (B, K, ...); images uint8 as they are; discrete ones int64 (B, K) or (B, K, N)."""
    actions: Tensor
    """As the environment takes them: float32 (B, K, ...), or int64 (B, K) or (B, K, N)."""
    timesteps: Tensor
    """Steps since the beginning of the episode, 0 at padding: int64 (B, K)."""
    pads: Tensor
    """Steps of padding that each row begins with: int64 (B,)."""


class TrajectoryTokens(nn.Module):
    """Tokens of a trajectory in the order (return-to-go, state, action), or (state, action) without returns.

    The tokens of one step share a coordinate, its timestep. It is left to the core's positions, or embedded here: a
    learned vector per timestep, added to all tokens of the step (Chen 2021, algorithm 1). Either way tokens are
    normalised last.
    """

    def __init__(self, config: DecisionConfig):
        super().__init__()
        assert config.observation_space is not None
        assert config.action_space is not None
        dim = config.core.dim
        self.returns = nn.Linear(1, dim) if config.returns == "token" else None
        self.observations = build_encoder(config.observation_space, dim)
        self.actions = build_action_encoder(config.action_space, dim)
        self.timesteps = nn.Embedding(config.max_timestep, dim) if config.timesteps == "embedded" else None
        self.norm = nn.LayerNorm(dim)
        if self.returns is not None:  # steep: the norm keeps directions only, and small returns have to differ in them
            nn.init.normal_(self.returns.weight, std=3.0)
        if self.timesteps is not None:  # small, so that a timestep that training never saw says little
            nn.init.normal_(self.timesteps.weight, std=0.02)

    @property
    def per_step(self) -> int:
        """Tokens of a step."""
        return 2 if self.returns is None else 3

    def forward(self, window: Window) -> tuple[Tensor, Tensor]:
        """Tokens (B, 3 K, D) and coordinates (B, 3 K, 1) int64 of a window; 2 K without returns."""
        parts = [self.observations(window.observations), self.actions(window.actions)]  # (B, K, D) each
        if self.returns is not None:
            with torch.autocast(window.returns.device.type, enabled=False):  # as in acting: not rounded to three digits
                parts.insert(0, self.returns(window.returns))
        x = torch.stack(parts, dim=2).flatten(1, 2)  # (B, K, 3, D) -> (B, 3 K, D)
        coords = window.timesteps.repeat_interleave(self.per_step, dim=1)  # (B, 3 K)
        return self.locate(x, coords), coords.unsqueeze(-1)

    def step(self, action: Tensor | None, returns: Tensor, observation: Tensor, coords: Tensor) -> Tensor:
        """What is new to read before acting, the same step for all rows: (a_t-1, R_t, s_t), without a_t-1 at first.

        action (B, ...), returns (B, 1), observation (B, ...); at: int64 (n,), the coordinates of the n new tokens.
        Returns (B, n, D).
        """
        parts = [self.observations(observation)]  # (B, D) each
        if self.returns is not None:
            parts.insert(0, self.returns(returns))
        if action is not None:
            parts.insert(0, self.actions(action))
        return self.locate(torch.stack(parts, dim=1), coords)

    def locate(self, x: Tensor, coords: Tensor) -> Tensor:
        """Tokens (B, T, D) with their timesteps (T,) or (B, T) embedded, if they are, and normalised."""
        return self.norm(x if self.timesteps is None else x + self.timesteps(coords))
