"""Trajectories become tokens: (return-to-go, state, action) of each step, encoded by the kind of their spaces."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from decision.data.windows import Window
from decision.environments.spaces import Space, channels_first, frames
from decision.models.config import DecisionConfig


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
        self.actions = ActionEncoder(actions, dim) if actions.kind == "box" else CategoryEncoder(actions, dim)
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


class VectorEncoder(nn.Linear):
    """One linear map of all numbers: (..., *shape) -> (..., D)."""

    def __init__(self, space: Space, dim: int):
        super().__init__(space.size, dim)
        self.shape = space.shape

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(flat(x, self.shape).to(self.weight.dtype))


class ActionEncoder(nn.Linear):
    """The same for continuous actions, which are first scaled from their bounds to [-1, 1]."""

    def __init__(self, space: Space, dim: int):
        super().__init__(space.size, dim)
        self.scale = ActionScale(space)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.scale.unit(x))


class CategoryEncoder(nn.Module):
    """A vector for each value of each choice, summed over the choices: int64 (..., *shape) -> (..., D)."""

    def __init__(self, space: Space, dim: int):
        super().__init__()
        self.shape = space.shape
        self.table = nn.Embedding(sum(space.counts), dim)
        first = torch.tensor([0, *space.counts[:-1]]).cumsum(0) - torch.tensor(space.start)
        self.register_buffer("first", first, persistent=False)  # (N,): the row of each choice's value 0
        self.first: Tensor

    def forward(self, x: Tensor) -> Tensor:
        rows = flat(x, self.shape) + self.first  # (..., N); at padding there may be something that is not a value
        return self.table(rows.clamp(0, self.table.num_embeddings - 1)).sum(-2)


class ImageEncoder(nn.Module):
    """Three convolutions, then a linear map (Mnih 2015, methods): values from 0 to 255 (..., *shape) -> (..., D).

    shape: (H, W, C), or (C, H, W) where the first axis is the shortest, as for stacked frames; (H, W) where images are
    grey; four axes for a stack of such images, whose channels then lie side by side. See `Space.is_image`.
    """

    def __init__(self, shape: tuple[int, ...], dim: int):
        super().__init__()
        self.axes, self.frames = len(shape), frames(shape)
        count, *image = self.frames
        self.channels_first = channels_first(image)
        channels, *sides = image if self.channels_first else (image[-1], *image[:-1])
        self.layers = nn.Sequential(
            *(nn.Conv2d(count * channels, 32, 8, stride=4), nn.ReLU()),
            *(nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3), nn.ReLU()),
            nn.Flatten(),
        )
        self.project = nn.Linear(64 * math.prod(_left(side) for side in sides), dim)

    def forward(self, x: Tensor) -> Tensor:
        before = x.shape[: -self.axes]
        x = x.reshape(-1, *self.frames)  # (N, K, C, H, W) or (N, K, H, W, C)
        x = (x if self.channels_first else x.movedim(-1, 2)).flatten(1, 2)  # (N, K C, H, W)
        pixels = x.to(self.project.weight.dtype) / 255
        return self.project(self.layers(pixels)).unflatten(0, before)


class MixedEncoder(nn.Module):
    """Flattened dictionaries with pictures: one linear map of all numbers, convolutions of each picture, their sum."""

    def __init__(self, space: Space, dim: int):
        super().__init__()
        self.places = [(first, tuple(shape)) for first, *shape in space.pictures]
        self.pictures = nn.ModuleList(ImageEncoder(shape, dim) for _, shape in self.places)
        left = torch.ones(space.size, dtype=torch.bool)
        for first, shape in self.places:
            left[first : first + math.prod(shape)] = False
        self.register_buffer("rest", left.nonzero().squeeze(-1), persistent=False)  # numbers that are no pixels
        self.rest: Tensor
        self.numbers = nn.Linear(len(self.rest), dim) if len(self.rest) else None

    def forward(self, x: Tensor) -> Tensor:
        parts = [
            encode(x[..., first : first + math.prod(shape)].unflatten(-1, shape))
            for encode, (first, shape) in zip(self.pictures, self.places, strict=True)
        ]
        if self.numbers is not None:
            parts.append(self.numbers(x[..., self.rest].to(self.numbers.weight.dtype)))
        return torch.stack(parts).sum(0)  # (..., D)


class ActionScale(nn.Module):
    """Continuous actions from their bounds to [-1, 1] and back; unchanged where any bound is missing.

    A number whose bounds are equal becomes 0.
    """

    def __init__(self, space: Space):
        super().__init__()
        largest = torch.finfo(torch.float32).max
        self.bounded = all((np.abs(bound) <= largest).all() for bound in space.bounds())
        low, high = (torch.tensor(bound.flatten(), dtype=torch.float32) for bound in space.bounds())  # (A,) each
        self.shape = space.shape
        reach = (high / 2 - low / 2).masked_fill(low == high, 1.0)
        bounds = {"low": low, "high": high, "centre": low / 2 + high / 2, "reach": reach}
        for name, value in bounds.items():
            self.register_buffer(name, value, persistent=False)
        self.low: Tensor
        self.high: Tensor
        self.centre: Tensor
        self.reach: Tensor

    def unit(self, actions: Tensor) -> Tensor:
        """(..., *shape) as in the environment -> (..., A)."""
        actions = flat(actions, self.shape)
        return (actions - self.centre) / self.reach if self.bounded else actions

    def environment(self, unit: Tensor) -> Tensor:
        """(..., A) -> (..., *shape) as in the environment, within the bounds."""
        actions = unit * self.reach + self.centre if self.bounded else unit
        return actions.clamp(self.low, self.high).reshape(*unit.shape[:-1], *self.shape)


def build_encoder(space: Space, dim: int) -> nn.Module:
    """The encoder of observations of a space."""
    if space.kind != "box":
        return CategoryEncoder(space, dim)
    if space.pictures:
        return MixedEncoder(space, dim)
    return ImageEncoder(space.shape, dim) if space.is_image else VectorEncoder(space, dim)


def flat(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(..., *shape) -> (..., numbers)."""
    return x if len(shape) == 1 else x.unsqueeze(-1) if not shape else x.flatten(-len(shape))


def _left(side: int) -> int:
    """Pixels a side after the three convolutions."""
    return (((side - 8) // 4 + 1) - 4) // 2 + 1 - 2
