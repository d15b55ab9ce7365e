"""Acting from a cache is acting from the steps themselves, whoever else is in the batch and however long it lasts."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from decision.acting.policy import ModelPolicy, Policy
from decision.data.summary import Normaliser
from decision.data.windows import WindowOrder
from decision.environments.spaces import Space
from decision.models.decision_transformer import DecisionTransformer
from tests.decision.acting.recomputed import Recomputed
from tests.decision.toys import BOX, DISCRETE, FROM_ONE, IMAGE, OPEN, SEVERAL, TIMES, VECTOR, agent, unscaled, values

LENGTHS = (3, 25, 14, 25, 1)  # with 6 steps of context: before, at and after several refills
ACTIONS = {"discrete": DISCRETE, "from one": FROM_ONE, "several": SEVERAL, "bounded": BOX, "open": OPEN}


def compare(model: DecisionTransformer, normaliser: Normaliser, lengths=LENGTHS, seed: int = 0) -> None:
    """The same predictions and actions, batched with rows that leave, and one episode at a time, step by step."""
    rows, space = len(lengths), model.config.observation_space
    seen = values(space, rows, max(lengths), seed=seed).numpy()
    rewards = np.random.default_rng(seed).normal(size=(rows, max(lengths))).astype(np.float32)
    targets = np.linspace(-3, 30, rows)
    together, alone = (
        ModelPolicy(model, normaliser, targets),
        [Recomputed(model, normaliser, float(t)) for t in targets],
    )
    predicted = []
    model.head.register_forward_hook(lambda head, inputs, output: predicted.append(output))
    running = list(range(rows))
    for step in range(max(lengths)):
        left = [i for i, row in enumerate(running) if lengths[row] > step]
        if len(left) < len(running):
            together.keep(left)
            running = [running[i] for i in left]
        brought = rewards[running, step - 1] if step else None
        actions = together.act(seen[running, step], brought)
        batched = predicted.pop()
        for i, row in enumerate(running):
            expected = alone[row].act(seen[[row], step], None if brought is None else brought[[i]])
            torch.testing.assert_close(batched[i], alone[row].predictions[-1], atol=2e-5, rtol=1e-4)
            np.testing.assert_allclose(actions[i], expected[0], atol=1e-5)
        predicted.clear()
    assert together.reader.step == max(lengths)


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("returns", ["token", "none"])
@pytest.mark.parametrize("action", ACTIONS)
def test_cached_and_batched_is_one_by_one_and_recomputed(action, returns, times):
    compare(agent(times, ACTIONS[action], returns=returns), unscaled())


@pytest.mark.parametrize("context", [1, 2, 3, 7])
@pytest.mark.parametrize("returns", ["token", "none"])
def test_so_it_is_for_every_length_of_the_context(returns, context):
    compare(agent("rotary", context=context, returns=returns), unscaled())


@pytest.mark.parametrize("position", ["alibi", "t5", "sinusoidal"])
def test_so_it_is_for_positions_in_the_scores(position):
    from dataclasses import replace

    from core.config import PositionConfig
    from tests.core.helpers import awake
    from tests.decision.toys import config

    plain = config("rotary")
    changed = replace(plain, core=replace(plain.core, position=PositionConfig(position)))
    compare(awake(DecisionTransformer(changed)), unscaled())


@pytest.mark.parametrize("observation", [IMAGE, SEVERAL, DISCRETE, OPEN], ids=str)
def test_so_it_is_for_every_kind_of_observation(observation):
    compare(agent(observation=observation), unscaled(observation), lengths=(2, 9))


def test_so_it_is_for_a_gaussian_head():
    compare(agent(action=BOX, head="gaussian"), unscaled())


def test_acting_reads_what_training_reads(cartpole, monkeypatch):
    """Observations to the bit, returns-to-go to the last digits, at every step of every episode."""
    normaliser, model = Normaliser.of(cartpole), agent(context=4)
    [learned] = WindowOrder(cartpole, normaliser, context=1, batch_size=cartpole.steps).batch(0)  # an epoch: every step
    known = {
        seen.tobytes(): togo for seen, togo in zip(learned.observations.numpy(), learned.returns[:, 0, 0], strict=True)
    }
    assert len(known) == cartpole.steps
    read, step = [], model.embed.step
    monkeypatch.setattr(model.embed, "step", lambda action, *what: read.append(what[:2]) or step(action, *what))
    for one in cartpole:
        policy = ModelPolicy(model, normaliser, [float(one.rewards.sum(dtype=np.float64))])
        for t, seen in enumerate(one.observations):
            policy.act(seen[None], one.rewards[[t - 1]] if t else None)
    assert len(read) == cartpole.steps
    for returns, seen in read:
        assert returns.item() == pytest.approx(known[seen.numpy().tobytes()].item(), rel=1e-6)


def test_a_policy_acts_as_one_row_of_a_batch_in_one_episode_after_the_other():
    model, normaliser = agent("rotary", action=BOX), unscaled()
    policy = Policy(model, normaliser)
    for target, seed in ((5.0, 0), (9.0, 1)):
        policy.reset(target)
        one = ModelPolicy(model, normaliser, [target])
        for step, seen in enumerate(values(VECTOR, 15, seed=seed).numpy()):
            brought = np.array([0.3 * step], np.float32) if step else None
            action = policy.act(seen.tolist(), 0.3 * step)  # the first reward is nobody's
            np.testing.assert_array_equal(action, one.act(seen[None], brought)[0])
            assert BOX.gym().contains(action)


def test_a_discrete_action_is_a_number_that_the_environment_takes():
    policy = Policy(agent(action=FROM_ONE), unscaled())
    policy.reset(3)
    assert FROM_ONE.gym().contains(policy.act([0.0] * 4))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("side", [1, -1])
def test_an_action_at_its_bound_is_inside_it_whatever_its_type(side, dtype):
    bound = float(np.array(0.3, dtype))
    space = Space("box", (2,), dtype, (-bound,), (bound,))
    model = agent(action=space)
    torch.nn.init.constant_(model.head.bias, 1e3 * side)
    [action] = ModelPolicy(model, unscaled(), [5.0]).act(values(VECTOR, 1).numpy())
    assert action.tolist() == [side * bound] * 2
    assert space.gym().contains(action)


def test_the_return_asked_for_and_every_reward_count():
    model = agent(action=BOX)
    seen = values(VECTOR, 1).numpy()
    answers = {target: ModelPolicy(model, unscaled(), [target]).act(seen).tobytes() for target in (0, 5, 50)}
    assert len(set(answers.values())) == 3
    rewarded = []
    for reward in (0.0, 1.0):
        policy = ModelPolicy(model, unscaled(), [5.0])
        policy.act(seen)
        rewarded.append(policy.act(seen, np.array([reward], np.float32)))
    assert (rewarded[0] != rewarded[1]).any()


@pytest.mark.parametrize("head", ["categorical", "gaussian"])
def test_drawn_actions_depend_on_the_own_seed_only(head):
    model = agent(action=DISCRETE if head == "categorical" else BOX, head=head)
    seen = values(VECTOR, 3, 12).numpy()
    rewards = np.zeros(3, np.float32)

    def acted(rows, seeds):
        policy = ModelPolicy(model, unscaled(), [5.0] * len(rows), temperature=1.5, seeds=seeds)
        return np.stack([policy.act(seen[rows, t], rewards[: len(rows)] if t else None) for t in range(12)], axis=1)

    together = acted([0, 1, 2], [7, 8, 9])
    np.testing.assert_allclose(acted([1], [8])[0], together[1], atol=1e-5)
    assert (acted([1], [80])[0] != together[1]).any()
    certain = ModelPolicy(model, unscaled(), [5.0])
    steady = np.stack([certain.act(seen[[1], t], rewards[:1] if t else None)[0] for t in range(12)])
    assert (steady != together[1]).any()


def test_rows_that_stay_keep_their_chance():
    model = agent()
    seen, rewards = values(VECTOR, 2, 9).numpy(), np.zeros(2, np.float32)
    two = ModelPolicy(model, unscaled(), [5.0, 5.0], temperature=1.0, seeds=[7, 8])
    one = ModelPolicy(model, unscaled(), [5.0], temperature=1.0, seeds=[8])
    for t in range(3):
        assert two.act(seen[:, t], rewards if t else None)[1] == one.act(seen[1:, t], rewards[1:] if t else None)[0]
    two.keep([1])
    for t in range(3, 9):
        assert two.act(seen[1:, t], rewards[1:]) == one.act(seen[1:, t], rewards[1:])


@pytest.mark.parametrize("times", ["embedded", "learned"])
def test_an_episode_beyond_the_table_of_timesteps_is_refused_by_a_sentence(times):
    policy = Policy(agent(times, max_timestep=8), unscaled())
    policy.reset(3)
    for _ in range(8):
        policy.act([0.0] * 4, 1.0)
    with pytest.raises(ValueError, match="longer than the 8 steps of the model's table of timesteps"):
        policy.act([0.0] * 4, 1.0)


def test_other_positions_have_no_longest_episode():
    policy = Policy(agent("rotary", max_timestep=0), unscaled())
    policy.reset(3)
    for _ in range(300):
        policy.act([0.0] * 4, 1.0)


@pytest.mark.parametrize("target", ["much", float("nan"), float("inf"), None, [3.0]])
def test_a_target_that_is_no_number_is_refused(target):
    with pytest.raises(ValueError, match="target_return = .* must be a"):
        Policy(agent(), unscaled()).reset(target)


@pytest.mark.parametrize(
    ("space", "given", "what"),
    [
        (IMAGE, np.zeros((40, 36, 3)), "of float64"),
        (IMAGE, np.full((40, 36, 3), 256), "with 256"),
        (DISCRETE, 3, "with 3"),
        (FROM_ONE, 0, "with 0"),
        (DISCRETE, 1.7, "of float64"),
        (SEVERAL, [2, 4], "with 4"),
        (VECTOR, [0.0, 0.0, 0.0, float("nan")], "with nan"),
        (VECTOR, [0.0, 0.0, 0.0, 1e39], "with 1e+39"),
        (VECTOR, [[0.0], [0.0, 0.0]], "that is a list"),
        (VECTOR, ["a", "b", "c", "d"], "of <U1"),
    ],
)
def test_an_observation_of_another_kind_or_range_is_refused(space, given, what):
    policy = Policy(agent(observation=space), unscaled(space))
    policy.reset(3)
    with pytest.raises(
        ValueError, match=re.escape(f"an observation {what} is not in the space") + ".*" + re.escape(str(space))
    ):
        policy.act(given)


@pytest.mark.parametrize(
    ("space", "given"),
    [
        (IMAGE, np.full((40, 36, 3), 255).tolist()),
        (FROM_ONE, np.int32(5)),
        (SEVERAL, [2, 3]),
        (VECTOR, [0, 1, 2, 3]),
        (VECTOR, np.zeros(4, np.float16)),
    ],
)
def test_an_observation_may_be_given_in_other_types_that_hold_it(space, given):
    first, second = (Policy(agent(observation=space), unscaled(space)) for _ in range(2))
    first.reset(3)
    second.reset(3)
    assert first.act(given) == second.act(np.asarray(given, space.stored))


def test_what_has_no_effect_or_no_meaning_is_refused():
    conditioned, cloned = agent(), agent(returns="none")
    with pytest.raises(ValueError, match="target_return = 3 must be None"):
        Policy(cloned, unscaled()).reset(3)
    Policy(cloned, unscaled()).reset()
    with pytest.raises(ValueError, match="call reset"):
        Policy(conditioned, unscaled()).act([0.0] * 4)
    policy = Policy(conditioned, unscaled())
    policy.reset(3)
    with pytest.raises(ValueError, match=r"shape \(3,\) is not in the space .* box \(4,\)"):
        policy.act([0.0] * 3)
    with pytest.raises(ValueError, match=r"an observation that is a dict is not .*: box \(4,\) .* gymnasium.spaces"):
        policy.act({"place": [0.0] * 4})
    with pytest.raises(ValueError, match="temperature = 1.0 must be 0"):
        Policy(agent(action=BOX), unscaled(), temperature=1.0).reset(3)
    for temperature in (float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match=f"temperature = {temperature} must be 0, or a finite number above 0"):
            Policy(conditioned, unscaled(), temperature=temperature).reset(3)
    for reward in (float("nan"), float("inf"), np.zeros(2), "much"):
        with pytest.raises(ValueError, match=f"reward = .*{re.escape(str(reward)[:3])}.* must be a finite number"):
            policy.act([0.0] * 4, reward)
    for seeds in ((), (1,)):
        with pytest.raises(ValueError, match=r"seeds = .* must be one for each of 2 targets where temperature = 1.0"):
            ModelPolicy(conditioned, unscaled(), [3.0, 4.0], temperature=1.0, seeds=seeds)
    with pytest.raises(ValueError, match="call model.eval"):
        Policy(agent().train(), unscaled()).reset(3)


def test_a_reward_that_is_missing_is_refused_where_the_return_to_come_is_counted_from_it():
    policy = Policy(agent(), unscaled())
    policy.reset(3)
    policy.act([0.0] * 4)  # no action, no reward
    with pytest.raises(ValueError, match="reward = None must be a finite number"):
        policy.act([0.0] * 4)
    policy.reset(3)
    policy.act([0.0] * 4)
    cloned = Policy(agent(returns="none"), unscaled())
    cloned.reset()
    for _ in range(3):
        cloned.act([0.0] * 4)


@pytest.mark.parametrize("reward", [np.array([2.0]), np.float32(2), torch.tensor(2.0), np.array([[2]]), 2])
def test_a_reward_is_a_number_however_it_is_wrapped(reward):
    policies = [Policy(agent(action=BOX), unscaled()) for _ in range(2)]
    actions = []
    for policy, brought in zip(policies, (reward, 2.0), strict=True):
        policy.reset(3)
        policy.act([0.0] * 4)
        actions.append(policy.act([0.0] * 4, brought))
    np.testing.assert_array_equal(*actions)
