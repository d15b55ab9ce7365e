"""A wrapper that all environments are made with; it needs Gymnasium when it is imported."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from decision.environments.observations import Environment, as_array, handled, name_of
from decision.environments.spaces import describe


class Checked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose observations are arrays that its space can hold, and whose rewards are single numbers.

    Raises ValueError with step and seed in place of an observation or a reward that a cast would destroy.
    """

    def __init__(self, environment: Environment):
        super().__init__(environment)
        self._space = describe(self.observation_space) if handled(self.observation_space) else None
        self._seed: int | None = None
        self._steps = 0

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """That of the environment, which this does not change."""
        return self.env.spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        self._seed, self._steps = seed, 0
        observation, info = self.env.reset(seed=seed, options=options)
        return self._checked(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if not isinstance(reward, float):
            number = np.asarray(reward)
            if number.size != 1 or number.dtype.kind not in "fiub":
                raise ValueError(f"{name_of(self)} returned {reward!r} instead of one reward, {self._place()}")
            reward = float(number.item())
        self._steps += 1
        return self._checked(observation), reward, bool(terminated), bool(truncated), info

    def _checked(self, observation: Any) -> Any:
        return observation if self._space is None else as_array(self, observation, self._space, self._place)

    def _place(self) -> str:
        seed = "" if self._seed is None else f" of seed {self._seed}"
        return f"at step {self._steps} of the episode{seed}"
