"""Decision models: embedding -> core -> head, a few lines each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from core.checks import check_at_least, check_choices, check_positive
from core.config import PositionConfig, TransformerConfig
from core.graph import causal
from core.init import initialise
from core.transformer import Transformer
from decision.environments.spaces import Space
from decision.models.heads import CategoricalHead, DeterministicHead, GaussianHead, Head
from decision.models.tokens import TrajectoryTokens, Window


def paper_core() -> TransformerConfig:
    """The blocks of the Decision Transformer for continuous control (Chen 2021, table 9)."""
    none = PositionConfig("none")
    return TransformerConfig(dim=128, depth=3, n_heads=1, feedforward="relu", position=none, dropout=0.1)


@dataclass(frozen=True)
class DecisionConfig:
    """The shape of a Decision Transformer, or of behaviour cloning over the same tokens."""

    observation_space: Space | None = None
    """What the environment shows; default what the data has."""
    action_space: Space | None = None
    """What the environment takes; default what the data has."""
    context: int = 20
    """The most steps it attends to (K)."""
    max_timestep: int = 0
    """Steps of the longest episode it can know by a table of timesteps; 0 = that of the data or its environment.
    In an environment without a limit of its own, episodes are cut off there."""
    returns: Literal["token", "none"] = "token"
    """Whether it is told the return to reach; none = behaviour cloning."""
    timesteps: Literal["embedded", "position"] = "embedded"
    """How it is told when: a learned vector added to the tokens of a step, or by the core's positions."""
    head: Literal["auto", "categorical", "deterministic", "gaussian"] = "auto"
    """Prediction of actions; auto = categorical for discrete ones, deterministic for continuous ones."""
    entropy_weight: float = 0.1
    """Gaussian head: weight of the entropy in the loss, per nat."""
    core: TransformerConfig = field(default_factory=paper_core)
    """The shape of the blocks."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "context")
        check_at_least(self, 0, "max_timestep", "entropy_weight")
        if self.timesteps == "embedded" and self.core.position.kind != "none":
            raise ValueError(
                f"core.position.kind = {self.core.position.kind!r} must be 'none' with timesteps = 'embedded'"
            )
        if self.timesteps == "position" and self.core.position.kind == "none":
            raise ValueError("core.position.kind = 'none' tells no time: it needs timesteps = 'embedded'")
        if self.action_space is not None:
            check_head(self.head, self.action_space)

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        entropy = {"entropy_weight": "only a gaussian head has an entropy in its loss"}
        table = {"max_timestep": f"core.position.kind = {self.core.position.kind!r} has no table of timesteps"}
        return ({} if self.head == "gaussian" else entropy) | (table if self.longest is None else {})

    @property
    def longest(self) -> int | None:
        """The most steps of an episode that it can take; None = any."""
        return self.max_timestep if self.timesteps == "embedded" or self.core.position.kind == "learned" else None


class DecisionTransformer(nn.Module):
    """Actions from returns-to-go, observations and earlier actions (Chen 2021, algorithm 1)."""

    def __init__(self, config: DecisionConfig):
        super().__init__()
        if config.observation_space is None or config.action_space is None:
            raise ValueError(
                "observation_space and action_space = None: set them to the data's before building the model"
            )
        if config.longest == 0:
            raise ValueError("max_timestep = 0: set it to the data's before building the model")
        self.config = config
        self.embed = TrajectoryTokens(config)
        self.core = Transformer(config.core, extent=(config.max_timestep,))
        self.head = build_head(config)
        initialise(config.core, {self.head: "head"})

    def forward(self, window: Window) -> Tensor:
        """What its head predicts (`decision.models.heads`) for every step of a window, from its state token: (B, K, P).

        The action of the last step is not read: no prediction comes after it.
        """
        return turned(self.head(self._states(window)), -window.pads)

    def features(self, window: Window) -> Tensor:
        """The state tokens of a window after the core: (B, K, D)."""
        return turned(self._states(window), -window.pads)

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.roles`)."""
        below, *blocks = self.core.layered_modules()
        return [[self.embed, *below], *blocks]

    def _states(self, window: Window) -> Tensor:
        """The same with the padding of each row last: no step attends to it."""
        each = self.embed.per_step
        x, coords = self.embed(Window._make([*(turned(part, window.pads) for part in window[:-1]), window.pads]))
        states = slice(each - 2, None, each)
        return self.core(x[:, :-1], coords[:, :-1], causal(), read=states)  # (B, K, D)

    def no_weight_decay(self) -> set[str]:
        """Parameters of two axes that are no matrices: tables of timesteps and categories."""
        tables = {name for name, module in self.named_modules() if isinstance(module, nn.Embedding)}
        return {f"{name}.weight" for name in tables}


def turned(x: Tensor, by: Tensor) -> Tensor:
    """Rows in which step k is what step k + by[b] was, counted in a circle: (B, K, ...), int64 (B,)."""
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    steps = torch.arange(x.shape[1], device=x.device)
    return x[rows, (steps + by.unsqueeze(1)) % len(steps)]


def real(window: Window) -> Tensor:
    """Which steps are no padding: bool (B, K)."""
    return torch.arange(window.timesteps.shape[1], device=window.pads.device) >= window.pads.unsqueeze(1)


def build_head(config: DecisionConfig) -> Head:
    """The head that a configuration names, or the one that fits its action space."""
    dim, space = config.core.dim, config.action_space
    assert space is not None
    if space.kind != "box":
        return CategoricalHead(dim, space)
    if config.head == "gaussian":
        return GaussianHead(dim, space, config.entropy_weight)
    return DeterministicHead(dim, space)


def check_head(head: str, space: Space) -> None:
    """Raise ValueError when a head cannot predict actions of a space."""
    if (head == "categorical") == (space.kind == "box") and head != "auto":
        fits = "deterministic, gaussian" if space.kind == "box" else "categorical"
        raise ValueError(f"head = {head!r} does not fit actions of {space}; those that do are: auto, {fits}")
    if space.kind == "box" and not np.issubdtype(np.dtype(space.dtype), np.floating):
        raise ValueError(f"actions of {space} are not handled: boxes of floats, discrete and multidiscrete ones are")
