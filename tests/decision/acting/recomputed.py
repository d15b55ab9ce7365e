"""Acting the slow way: every window read afresh, one episode at a time. What the cache is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision.data.summary import Normaliser
from decision.data.windows import Window
from decision.models.decision_transformer import DecisionTransformer


class Recomputed:
    """One agent without a cache: `act` as `decision.acting.policy.ModelPolicy` with one row."""

    def __init__(self, model: DecisionTransformer, normaliser: Normaliser, target: float):
        self.model, self.normaliser, self.left = model, normaliser, target
        self.observations: list[Tensor] = []
        self.returns: list[float] = []
        self.actions: list[Tensor] = []
        self.predictions: list[Tensor] = []

    @torch.no_grad()
    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """The action (1, ...) on an observation (1, ...)."""
        if rewards is not None:
            self.left -= float(rewards[0])
        self.returns.append(self.left)
        self.observations.append(torch.as_tensor(observations[0]).clone())
        prediction = self.model(self.window())[:, -1]
        self.predictions.append(prediction[0])
        self.actions.append(self.model.head.choose(prediction)[0])
        return self.actions[-1].unsqueeze(0).numpy()

    def keep(self, rows: list[int]) -> None:
        raise AssertionError("one episode has no rows to leave")

    def window(self) -> Window:
        """The steps that are attended to now, with any action in place of the one to be chosen."""
        step = len(self.observations) - 1
        start = window_start(step, self.model.config.context)
        returns = torch.tensor(self.returns[start:], dtype=torch.float64).view(1, -1, 1)
        observations = torch.stack(self.observations[start:]).unsqueeze(0)
        space = self.model.config.action_space
        assert space is not None
        any_action = torch.from_numpy(np.zeros(space.shape, space.stored))
        actions = torch.stack([*self.actions[start:], any_action]).unsqueeze(0)
        timesteps = torch.arange(start, step + 1).unsqueeze(0)
        seen = self.normaliser.observations(observations)
        return Window(self.normaliser.returns(returns), seen, actions, timesteps, torch.tensor([step + 1 - start]))


def window_start(step: int, context: int) -> int:
    """The first step of the window at `step`: it grows to the whole context, then begins anew with its last quarter."""
    stride = context - max(1, context // 4) + 1  # steps between two beginnings
    return 0 if step < context else ((step - context) // stride + 1) * stride
