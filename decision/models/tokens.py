"""Trajectories become tokens: (return-to-go, state, action) of one step after another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from decision.data.windows import Window
from decision.models.config import DecisionConfig
from decision.models.encoders import build_action_encoder, build_encoder


class TrajectoryTokens(nn.Module):
    """Tokens of a trajectory in the order (return-to-go, state, action), or (state, action) without returns.

    The tokens of a step share a coordinate, its timestep. It is either left to the core's positions or embedded here,
    as a learned vector per timestep that is added to all tokens of the step (Chen 2021, algorithm 1). Tokens are
    normalised last.
    """

    def __init__(self, config: DecisionConfig):
        super().__init__()
        dim, (observations, actions) = config.core.dim, config.spaces()
        self.returns = nn.Linear(1, dim) if config.returns == "token" else None
        self.observations = build_encoder(observations, dim)
        self.actions = build_action_encoder(actions, dim)
        self.timesteps = nn.Embedding(config.max_timestep, dim) if config.timesteps == "embedded" else None
        self.norm = nn.LayerNorm(dim)
        if self.returns is not None:  # large: the norm keeps only directions, in which small returns have to differ
            nn.init.normal_(self.returns.weight, std=3.0)
        if self.timesteps is not None:  # small, so that a timestep absent from training has little effect
            nn.init.normal_(self.timesteps.weight, std=0.02)

    @property
    def per_step(self) -> int:
        """Tokens of a step."""
        return 2 if self.returns is None else 3

    def forward(self, window: Window) -> tuple[Tensor, Tensor]:
        """Tokens (B, 3 K, D) and coordinates (B, 3 K, 1) int64 of a window; 2 K without returns."""
        parts = [self.observations(window.observations), self.actions(window.actions)]  # (B, K, D) each
        if self.returns is not None:
            with torch.autocast(window.returns.device.type, enabled=False):  # float32, as in acting
                parts.insert(0, self.returns(window.returns))
        x = torch.stack(parts, dim=2).flatten(1, 2)  # (B, K, 3, D) -> (B, 3 K, D)
        coords = window.timesteps.repeat_interleave(self.per_step, dim=1)  # (B, 3 K)
        return self.locate(x, coords), coords.unsqueeze(-1)

    def step(self, action: Tensor | None, returns: Tensor, observation: Tensor, coords: Tensor) -> Tensor:
        """The new tokens before acting at a step, the same one for all rows: (a_t-1, R_t, s_t), at first without a_t-1.

        action (B, ...), returns (B, 1), observation (B, ...), coords int64 (n,) of the new tokens -> (B, n, D).
        """
        parts = [self.observations(observation)]  # (B, D) each
        if self.returns is not None:
            parts.insert(0, self.returns(returns))
        if action is not None:
            parts.insert(0, self.actions(action))
        return self.locate(torch.stack(parts, dim=1), coords)

    def locate(self, x: Tensor, coords: Tensor) -> Tensor:
        """Tokens (B, T, D) plus the vectors of their timesteps (T,) or (B, T), if there are any, normalised."""
        return self.norm(x if self.timesteps is None else x + self.timesteps(coords))
