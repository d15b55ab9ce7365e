"""Tiny awake models and random windows of every kind of space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from core.config import PositionConfig, TransformerConfig
from decision.data.summary import Normaliser
from decision.data.windows import Window
from decision.environments.make import make
from decision.environments.spaces import Space, describe
from decision.models.config import DecisionConfig
from decision.models.decision_transformer import DecisionTransformer
from tests.core.helpers import awake

VECTOR = Space("box", (4,), "float32", (None,), (None,))
IMAGE = Space("box", (40, 36, 3), "uint8", (0.0,), (255.0,))
BOX = Space("box", (2,), "float32", (-2.0, 0.0), (2.0, 1.0))
OPEN = Space("box", (2, 2), "float32", (None,), (None,))
DISCRETE = Space("discrete", (), "int64", counts=(3,), start=(0,))
FROM_ONE = Space("discrete", (), "int64", counts=(5,), start=(1,))
BELOW_ZERO = Space("discrete", (), "int64", counts=(3,), start=(-5,))
SEVERAL = Space("multidiscrete", (2,), "int64", counts=(3, 4), start=(0, 0))

TIMES = {"embedded": "none", "learned": "learned", "rotary": "rotary"}
"""How a model is told when: timesteps and the kind of the core's positions, by a short name."""


def config(
    times: str = "embedded", action: Space = DISCRETE, observation: Space = VECTOR, **changes: Any
) -> DecisionConfig:
    """2 blocks, 2 heads of 8 channels, 6 steps."""
    core = TransformerConfig(dim=16, depth=2, n_heads=2, position=PositionConfig(TIMES[times]))  # type: ignore[arg-type]
    timesteps = "embedded" if times == "embedded" else "position"
    settings = {"context": 6, "max_timestep": 200, "timesteps": timesteps, "core": core} | changes
    return DecisionConfig(observation, action, **settings)


def agent(
    times: str = "embedded", action: Space = DISCRETE, observation: Space = VECTOR, **changes: Any
) -> DecisionTransformer:
    """An awake model in evaluation mode."""
    return awake(DecisionTransformer(config(times, action, observation, **changes)))


def values(space: Space, *shape: int, seed: int = 0) -> Tensor:
    """Random observations or actions of a space: (*shape, *space.shape), as they are stored."""
    generator = torch.Generator().manual_seed(seed)
    if space.kind == "box":
        if space.is_image:
            return torch.randint(256, (*shape, *space.shape), generator=generator, dtype=torch.uint8)
        low, high = (torch.tensor(bound).nan_to_num(neginf=-1, posinf=1).float() for bound in space.bounds())
        return low + (high - low) * torch.rand(*shape, *space.shape, generator=generator)
    choices = [
        start + torch.randint(count, shape, generator=generator)
        for count, start in zip(space.counts, space.start, strict=True)
    ]
    return torch.stack(choices, dim=-1).reshape(*shape, *space.shape)


def others(space: Space, x: Tensor) -> Tensor:
    """Values of a space each of which differs from that in x (..., *space.shape)."""
    if space.kind == "box":
        return 255 - x if space.is_image else x + 0.5
    counts, start = (torch.tensor(each).reshape(space.shape) for each in (space.counts, space.start))
    return start + (x - start + 1) % counts


def window(
    model: DecisionTransformer, rows: int = 3, steps: int = 6, lengths: tuple[int, ...] = (), seed: int = 0
) -> Window:
    """A random window; padding holds zeros, as in training."""
    observed, acted = model.config.spaces()
    valid = torch.tensor(lengths or (steps,) * rows)
    padding = torch.arange(steps) >= valid.unsqueeze(1)  # (B, K)
    parts = (
        torch.rand(rows, steps, 1, generator=torch.Generator().manual_seed(seed)),
        values(observed, rows, steps, seed=seed),
        values(acted, rows, steps, seed=seed + 1),
        torch.arange(steps) + torch.arange(rows).unsqueeze(1),
    )
    return Window(*(blank(x, padding) for x in parts), valid)


def blank(x: Tensor, padding: Tensor) -> Tensor:
    """Zeros at padding: x (B, K, ...), padding bool (B, K)."""
    return x.masked_fill(padding.view(*padding.shape, *[1] * (x.dim() - 2)), 0)


def unscaled(space: Space = VECTOR, return_scale: float = 10.0) -> Normaliser:
    """Statistics that are not trivial."""
    if space.kind != "box" or space.is_image:
        return Normaliser(space.shape, return_scale=return_scale)
    return Normaliser(space.shape, (0.1,) * space.size, (0.7,) * space.size, return_scale)


def agent_for(name: str, **changes: Any) -> tuple[DecisionTransformer, Normaliser]:
    """An awake model for an environment, and statistics."""
    environment = make(name)
    observed, acted = describe(environment.observation_space), describe(environment.action_space)
    return agent("rotary", acted, observed, **changes), unscaled(observed, 100.0)
