"""A model acts in a vector environment of Gymnasium's, whose episodes end and begin anew at different steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision.acting.policy import FRACTION, as_actions, check_acting, check_finite, check_target, convert
from decision.data.summary import Normaliser
from decision.data.windows import Window
from decision.environments.spaces import describe, describe_actions, differences
from decision.models.decision_transformer import DecisionTransformer

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


class VectorPolicy:
    """Acts in all environments of a vector environment at once, in each as `Policy` does.

    policy.reset(target_return=500)
    observations, _ = environments.reset(seed=7)
    actions = policy.act(observations)
    observations, rewards, terminated, truncated, _ = environments.step(actions)
    actions = policy.act(observations, rewards, terminated | truncated)

    temperature, seed: as for `ModelPolicy`; the n-th episode that begins draws from seed + n.

    Raises ValueError for a model in training mode, a temperature without effect, and environments of other spaces.
    """

    def __init__(
        self,
        model: DecisionTransformer,
        normaliser: Normaliser,
        environments: VectorEnv[Any, Any, Any],
        *,
        temperature: float = 0.0,
        seed: int = 0,
    ):
        check_acting(model, temperature)
        self.model, self.normaliser, self.temperature, self.seed = model, normaliser, temperature, seed
        self.device = model.head.weight.device
        self.rows, (self.observed, self.acted) = environments.num_envs, model.config.spaces()
        theirs = describe(environments.single_observation_space), describe_actions(environments.single_action_space)
        for what, reason in differences(theirs, (self.observed, self.acted)):
            raise ValueError(f"{what} of the vector environment are {reason} as those of the model")
        # With "NextStep", the only mode before Gymnasium 1.1, the step after an episode's last takes no action
        mode = environments.metadata.get("autoreset_mode")
        self.rests = getattr(mode, "value", "NextStep") == "NextStep"
        self._targets: NDArray[np.float64] | None = None

    def reset(self, target_return: float | Sequence[float] | None = None) -> None:
        """Begins an episode in every environment; the next ones there are played towards the same return.

        target_return: one for all environments, or one each; None for a model without return tokens.
        """
        check_target(self.model, target_return)
        each = np.atleast_1d(np.array(0.0 if target_return is None else target_return))
        targets = [check_finite("target_return", one) for one in each]
        if len(targets) not in (1, self.rows):
            raise ValueError(f"target_return = {target_return} must be one number, or {self.rows}: one an environment")
        self._targets = np.full(self.rows, targets)
        self._returns_to_go = self._targets.copy()
        self._step, self._first = np.zeros((2, self.rows), np.int64)  # of the episode, and the first of its window
        self._ended = np.zeros(self.rows, np.bool_)  # whether the observation is the last one of an episode
        self._generators = [torch.Generator() for _ in range(self.rows)]
        self._window: list[Tensor] = []

    @torch.inference_mode()
    def act(self, observations: Any, rewards: Any = None, ended: Any = None) -> NDArray[Any]:
        """Actions (B, ...) for observations (B, ...); rewards and ended (B,) of the last step, at first without them.

        Raises ValueError before the first `reset`, for observations as `Policy` does, rewards or flags that are
        missing or of another kind, and an episode that exceeds the table of timesteps.
        """
        if self._targets is None:
            raise ValueError("call reset(target_return) before the first act(observations)")
        seen = self.normaliser.centred(torch.from_numpy(convert(observations, self.observed, (self.rows,))))
        seen = self.normaliser.observations(seen.to(self.device))
        if self._window:
            begins = self._advance(self._checked("rewards", rewards), self._checked("ended", ended))
        else:
            begins, self._window = ~self._ended, self._blank(seen)
        for row in np.flatnonzero(begins).tolist():
            self._step[row], self._first[row], self._returns_to_go[row] = 0, 0, self._targets[row]
            self._generators[row].manual_seed(self.seed)
            self.seed += 1
        self._read(seen)
        drawn = None
        if self.temperature:
            each = [torch.rand(self.model.head.draws, generator=generator) for generator in self._generators]
            drawn = torch.stack(each).to(self.device)
        self._last = self.model.head.choose(self._predict(), self.temperature, drawn)
        return as_actions(self._last, self.acted)

    def _checked(self, name: str, values: Any) -> NDArray[Any]:
        array, kinds = np.asarray(values), "b" if name == "ended" else "fiu"
        if array.shape != (self.rows,) or array.dtype.kind not in kinds or not np.isfinite(array).all():
            what = "flags, terminated | truncated," if name == "ended" else "finite numbers"
            raise ValueError(f"{name} = {values} must be {what} of the last step, for each of {self.rows} environments")
        return array

    def _blank(self, seen: Tensor) -> list[Tensor]:
        """Windows without a step: returns, observations, actions and timesteps, each (B, K, ...)."""
        size = self.rows, self.model.config.context
        actions = torch.from_numpy(np.zeros((*size, *self.acted.shape), self.acted.stored)).to(self.device)
        returns = torch.zeros(*size, 1, device=self.device)
        timesteps = torch.zeros(size, dtype=torch.int64, device=self.device)
        return [returns, seen.new_zeros(*size, *seen.shape[1:]), actions, timesteps]

    def _advance(self, rewards: NDArray[Any], ended: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Takes in what the last actions led to; whose observation begins an episode: bool (B,)."""
        begins = self._ended if self.rests else ended
        self._ended = ended & ~begins
        rows = np.flatnonzero(~(begins | ended))  # whose episode goes on
        self._window[2][rows, (self._step - self._first)[rows]] = self._last[rows]
        self._returns_to_go[rows] -= rewards[rows].astype(np.float32)
        self._step[rows] += 1
        return begins

    def _read(self, seen: Tensor) -> None:
        """Writes the new step of every episode into its window, which then drops its first steps if it is full."""
        longest, context = self.model.config.longest, self.model.config.context
        if longest is not None and self._step.max() >= longest:
            raise ValueError(f"the episode is longer than the {longest} steps of the model's table of timesteps")
        rows = np.flatnonzero(~self._ended)
        kept = max(1, int(context * FRACTION))
        left = np.where(self._step - self._first >= context, self._step + 1 - kept - self._first, 0)
        self._first += left
        if left.any():
            places = torch.from_numpy(np.minimum(np.arange(context) + left[:, None], context - 1)).to(self.device)
            self._window = [x[torch.arange(self.rows).unsqueeze(1), places] for x in self._window]
        returns = self.normaliser.returns(torch.from_numpy(self._returns_to_go)).unsqueeze(-1).to(self.device)
        step = torch.from_numpy(self._step).to(self.device)
        for x, new in zip((*self._window[:2], self._window[3]), (returns, seen, step), strict=True):
            x[rows, (self._step - self._first)[rows]] = new[rows]

    def _predict(self) -> Tensor:
        """The head's prediction at the last step of every window: (B, P)."""
        last = torch.from_numpy(self._step - self._first).to(self.device)  # (B,)
        returns, observations, actions, timesteps = (x[:, : int(last.max()) + 1] for x in self._window)
        window = Window(returns, observations, actions, timesteps, last + 1)
        return self.model(window)[torch.arange(self.rows, device=self.device), last]
