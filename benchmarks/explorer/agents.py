"""Decision models for the page."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.explorer.described import SEED, TRIES, Described, weights_of
from benchmarks.explorer.stacks import describe_stack
from decision.data.windows import Window
from decision.environments.spaces import Space
from decision.models.config import DecisionConfig
from decision.models.decision_transformer import (
    LOG_STD,
    CategoricalHead,
    DecisionTransformer,
    GaussianHead,
)
from decision.models.tokens import ActionScale
from decision.trained import Trained


def describe_agent(trained: Trained) -> Described:
    """A Decision Transformer for the page. Raises ValueError naming what the page does not know."""
    model, config, summary = trained.model, trained.model.config, trained.summary
    observations, actions = config.spaces()
    normaliser = summary.normaliser
    said = {
        "shape": {
            "context": config.context,
            "longest": config.longest,
            "observation": describe_space(observations, "observations"),
            "action": describe_action(actions),
            "headKind": head_kind(model),
            "logStd": list(LOG_STD),
            "stateMean": list(normaliser.origin or normaliser.mean),
            "stateStd": list(normaliser.std),
            "returnScale": normaliser.return_scale,
            "returns": list(summary.targets().values()),
            "target": summary.returns[-1],
        },
        "stacks": {"core": describe_stack(model.core, config.max_timestep or 1000, "causal")},
        "environment": trained.config.env or summary.environment,
    }
    return Described("agent", "decision", said, weights_of(model), model, lambda: model(random_window(config)))


def describe_space(space: Space, what: str) -> dict[str, Any]:
    """A space of numbers or choices. Raises ValueError for pictures."""
    if space.is_image or space.pictures:
        raise ValueError(f"{what} of {space} are pictures, which the page does not read: it reads numbers and choices")
    rows, first = 0, list[int]()
    for count, start in zip(space.counts, space.start, strict=True):
        first.append(rows - start)
        rows += count
    return {
        "kind": space.kind,
        "size": space.size,
        "counts": list(space.counts),
        "start": list(space.start),
        "first": first,
    }


def describe_action(space: Space) -> dict[str, Any]:
    """The space of actions; continuous ones with the centre and the reach of their bounds, where there are any."""
    said = describe_space(space, "actions")
    if space.kind == "box":
        scale = ActionScale(space)
        if scale.bounded:
            said |= {"centre": scale.centre.tolist(), "reach": scale.reach.tolist()}
    return said


def head_kind(model: DecisionTransformer) -> str:
    """What the head predicts."""
    if isinstance(model.head, CategoricalHead):
        return "categorical"
    return "gaussian" if isinstance(model.head, GaussianHead) else "deterministic"


def random_window(config: DecisionConfig, rows: int = TRIES, seed: int = SEED) -> Window:
    """Random windows, normalised, as long as the context."""
    generator = torch.Generator().manual_seed(seed)
    steps = min(config.context, config.longest or config.context)
    observations, actions = config.spaces()
    timesteps = torch.arange(steps).expand(rows, -1)  # (B, K)
    returns = torch.rand(rows, steps, 1, generator=generator)
    lengths = torch.full((rows,), steps)
    drawn = (random_values(space, (rows, steps), generator) for space in (observations, actions))
    return Window(returns, next(drawn), next(drawn), timesteps, lengths)


def random_values(space: Space, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Values of a space: float32 (B, K, ...), or int64 (B, K, ...)."""
    if space.kind == "box":
        return torch.randn(*shape, *space.shape, generator=generator)
    parts = [
        torch.randint(start, start + count, shape, generator=generator)
        for count, start in zip(space.counts, space.start, strict=True)
    ]
    return torch.stack(parts, dim=-1).reshape(*shape, *space.shape)  # (B, K, N) -> (B, K, *shape)
