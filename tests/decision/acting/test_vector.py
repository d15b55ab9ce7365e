"""In a vector environment a model acts as it would in each environment alone, whenever their episodes end."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from decision.acting.policy import Policy
from decision.acting.vector import VectorPolicy
from tests.decision.painted import PAINTED
from tests.decision.toys import agent_for

vector = pytest.importorskip("gymnasium.vector")
MODES = [mode for mode in getattr(vector, "AutoresetMode", [None]) if getattr(mode, "value", "") != "Disabled"]
TARGETS = [3.0, 5.0, 9.0]


def environments(mode: Any) -> Any:
    settings = {} if mode is None else {"autoreset_mode": mode}
    return gymnasium.make_vec(PAINTED, 3, vectorization_mode="sync", vector_kwargs=settings)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_every_environment_is_acted_in_as_if_alone(mode: Any, temperature: float) -> None:
    """Episodes last 2 to 9 steps, the context 4: some windows are read anew before the episode ends."""
    model, normaliser = agent_for(PAINTED, context=4)
    together, rests = environments(mode), getattr(mode, "value", "NextStep") == "NextStep"
    policy = VectorPolicy(model, normaliser, together, temperature=temperature, seed=5)
    policy.reset(TARGETS)
    seen, rewards, ended = together.reset(seed=3)[0], None, np.zeros(3, bool)
    alone: list[Policy | None] = [None] * 3
    begun = 0
    for _ in range(40):
        actions = policy.act(seen, *(() if rewards is None else (rewards, ended)))
        for row in range(3):
            if rests and ended[row]:  # the observation is the last one, the action is not taken
                alone[row] = None
                continue
            if alone[row] is None or ended[row]:
                alone[row] = Policy(model, normaliser, temperature=temperature, seed=5 + begun)
                alone[row].reset(TARGETS[row])
                brought, begun = None, begun + 1
            else:
                brought = rewards[row]
            assert alone[row].act(seen[row], brought) == actions[row]
        seen, rewards, terminated, truncated, _ = together.step(actions)
        ended = terminated | truncated
    assert begun > 9


def test_what_is_missing_or_does_not_fit_is_refused_by_name() -> None:
    model, normaliser = agent_for(PAINTED)
    together = environments(MODES[0])
    policy, seen = VectorPolicy(model, normaliser, together), np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match="call reset"):
        policy.act(seen)
    for target in ([1.0, 2.0], None, "much", float("nan")):
        with pytest.raises(ValueError, match="target_return = "):
            policy.reset(target)
    policy.reset(3.0)
    with pytest.raises(ValueError, match=r"of shape \(2,\) is not in the space .* of 3 environments"):
        policy.act(seen[0])
    policy.act(seen)
    rewards, ended = np.zeros(3), np.zeros(3, bool)
    for wrong, name in (
        ((), "rewards"),
        ((rewards,), "ended"),
        ((rewards[:2], ended), "rewards"),
        ((rewards, rewards), "ended"),
    ):
        with pytest.raises(ValueError, match=f"{name} = .* must be"):
            policy.act(seen, *wrong)
    with pytest.raises(ValueError, match="observations of the vector environment are"):
        VectorPolicy(model, normaliser, gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync"))


def test_an_episode_beyond_the_table_of_timesteps_is_refused() -> None:
    from tests.decision.toys import DISCRETE, VECTOR, agent, unscaled

    class Vectors:
        num_envs, metadata = 2, {}
        single_observation_space, single_action_space = VECTOR.gym(), DISCRETE.gym()

    policy = VectorPolicy(agent(max_timestep=8), unscaled(), Vectors())  # type: ignore[arg-type]
    policy.reset(3.0)
    step = np.zeros((2, 4), np.float32), np.zeros(2), np.zeros(2, bool)
    policy.act(step[0])
    for _ in range(7):
        policy.act(*step)
    with pytest.raises(ValueError, match="longer than the 8 steps"):
        policy.act(*step)
