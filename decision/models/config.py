"""The shape of a decision model."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from core.checks import check_at_least, check_choices, check_positive
from core.config import PositionConfig, TransformerConfig
from decision.environments.spaces import Space


def paper_core() -> TransformerConfig:
    """The blocks of the Decision Transformer for continuous control (Chen 2021, table 9)."""
    none = PositionConfig("none")
    return TransformerConfig(dim=128, depth=3, n_heads=1, feedforward="relu", position=none, dropout=0.1)


@dataclass(frozen=True)
class DecisionConfig:
    """The shape of a Decision Transformer, or of behaviour cloning over the same tokens."""

    observation_space: Space | None = None
    """Space of the observations; default that of the data."""
    action_space: Space | None = None
    """Space of the actions; default that of the data."""
    context: int = 20
    """The most steps it attends to (K)."""
    max_timestep: int = 0
    """Steps of the longest episode that its table of timesteps covers; 0 = that of the data or of its environment.
    In an environment without a limit of its own, episodes are cut off there."""
    returns: Literal["token", "none"] = "token"
    """Whether the return to reach is a token of every step; none = behaviour cloning."""
    timesteps: Literal["embedded", "position"] = "embedded"
    """How timesteps come in: as learned vectors added to the tokens of a step, or through the core's positions."""
    head: Literal["auto", "categorical", "deterministic", "gaussian"] = "auto"
    """How actions are predicted; auto = categorical for discrete ones, deterministic for continuous ones."""
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
            raise ValueError("core.position.kind = 'none' has no timesteps: it needs timesteps = 'embedded'")
        if self.action_space is not None:
            check_head(self.head, self.action_space)

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        entropy = {"entropy_weight": "only a gaussian head has an entropy in its loss"}
        table = {"max_timestep": f"core.position.kind = {self.core.position.kind!r} has no table of timesteps"}
        return ({} if self.head == "gaussian" else entropy) | (table if self.longest is None else {})

    @property
    def longest(self) -> int | None:
        """The most steps that an episode may have; None = any number."""
        return self.max_timestep if self.timesteps == "embedded" or self.core.position.kind == "learned" else None

    def spaces(self) -> tuple[Space, Space]:
        """The spaces of observations and actions, once they are set. Raises ValueError before."""
        if self.observation_space is None or self.action_space is None:
            raise ValueError("observation_space and action_space = None: set them to those of the data first")
        return self.observation_space, self.action_space


def check_head(head: str, space: Space) -> None:
    """Raise ValueError when a head cannot predict actions of a space."""
    if (head == "categorical") == (space.kind == "box") and head != "auto":
        accepted = "deterministic, gaussian" if space.kind == "box" else "categorical"
        raise ValueError(f"head = {head!r} does not fit actions of {space}; accepted are: auto, {accepted}")
    if space.kind == "box" and not np.issubdtype(np.dtype(space.dtype), np.floating):
        raise ValueError(f"actions of {space} are not handled: boxes of floats, discrete and multidiscrete ones are")
