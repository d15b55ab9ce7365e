"""A corridor to walk along, as `tests.decision.corridor:Corridor-v0`, and those who walk in it.

Place 3 is the end of it, and of an episode; a walk is cut off after 8 steps. What is seen is the place and a number
that the seed decides.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

MODULE = "tests.decision.corridor"
ID, OPEN, SLOPE, BROKEN = (f"{MODULE}:{name}-v0" for name in ("Corridor", "Open", "Slope", "Broken"))
LIMIT = 8


class Corridor(gymnasium.Env[Any, Any]):
    """Action 1 goes on, 0 goes back; each step costs 0.1, the end brings 1; `broken`: the step that shows NaN."""

    observation_space = gymnasium.spaces.Box(-100, 100, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, broken: int = 0, render_mode: str | None = None) -> None:
        self.broken = broken

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.steps = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.place += 1 if action == 1 else -1
        there = self.place == 3
        return self._seen(), 0.9 if there else -0.1, there, False, {}

    def _seen(self) -> Any:
        noise = np.nan if self.broken and self.steps == self.broken else self.np_random.normal()
        return np.array([self.place, noise])


class Slope(Corridor):
    """The same for actions of two numbers."""

    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return super().step(int(action[0] > 0))


class Steps(Corridor):
    """The same for one whole number."""

    action_space = gymnasium.spaces.Box(-9, 9, (1,), np.int64)


class Pair(Corridor):
    """Takes two actions at once."""

    action_space = gymnasium.spaces.Dict(hand=gymnasium.spaces.Discrete(2), foot=gymnasium.spaces.Discrete(2))


class Spoken(Corridor):
    """Says what is seen."""

    observation_space = gymnasium.spaces.Text(9)


class Narrow(Corridor):
    """Shows another number than it declares."""

    def _seen(self) -> Any:
        return super()._seen()[:1]


for name, kind, settings in (
    ("Corridor", Corridor, {"reward_threshold": 0.65}),
    ("Open", Corridor, {}),
    ("Broken", Corridor, {"kwargs": {"broken": 2}}),
    ("Slope", Slope, {}),
    ("Steps", Steps, {}),
    ("Pair", Pair, {}),
    ("Spoken", Spoken, {}),
    ("Narrow", Narrow, {}),
):
    if f"{name}-v0" not in gymnasium.registry:
        gymnasium.register(f"{name}-v0", kind, max_episode_steps=LIMIT, **settings)


def ahead(observation: Any) -> int:
    """Straight to the end."""
    return 1


def far(observation: Any) -> list[float]:
    """On a slope, beyond the bounds."""
    return [5.0, -5.0]


def nowhere(observation: Any) -> int:
    """No action there is."""
    return 2


NOT_A_FUNCTION = 3
