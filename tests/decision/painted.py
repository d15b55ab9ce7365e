"""An environment that paints pictures, as `tests.decision.painted:Painted-v0`."""

from __future__ import annotations

import gymnasium
import numpy as np

PAINTED = "tests.decision.painted:Painted-v0"


class Painted(gymnasium.Env):
    """Ends of itself after as many steps as its first draw says; shows and paints how many are gone."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-9, 99, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.gone, self.all = 0, int(self.np_random.integers(2, 12))
        return self.seen(), {}

    def step(self, action):
        self.gone += 1
        return self.seen(), float(action), self.gone == self.all, False, {}

    def seen(self):
        return np.array([self.gone, self.all], np.float32)

    def render(self):
        return np.full((20, 30, 3), 10 * self.gone, np.uint8)


if "Painted-v0" not in gymnasium.registry:
    gymnasium.register("Painted-v0", Painted, max_episode_steps=9)
