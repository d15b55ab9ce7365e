"""The Decision Transformer: what it may attend to, padding, its losses, its limits."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from core.config import TransformerConfig
from core.files.serialize import from_dict, to_dict
from core.optim.config import OptimizerConfig
from core.optim.groups import build_optimizer
from decision.data.windows import Window
from decision.environments.spaces import Space
from decision.models.config import DecisionConfig
from decision.models.decision_transformer import CategoricalHead, DecisionTransformer, DeterministicHead, GaussianHead
from decision.tasks.imitation import DecisionLoss, count_steps
from tests.decision.toys import (
    BELOW_ZERO,
    BOX,
    DISCRETE,
    FROM_ONE,
    IMAGE,
    OPEN,
    SEVERAL,
    TIMES,
    VECTOR,
    agent,
    config,
    others,
    values,
    window,
)

HOPPER = Space("box", (11,), "float64", (None,), (None,)), Space("box", (3,), "float32", (-1.0,), (1.0,))
HEADS = {
    "discrete": (DISCRETE, "categorical"),
    "from one": (FROM_ONE, "auto"),
    "below zero": (BELOW_ZERO, "auto"),
    "several": (SEVERAL, "auto"),
    "bounded": (BOX, "deterministic"),
    "open": (OPEN, "auto"),
    "gaussian": (BOX, "gaussian"),
    "open gaussian": (OPEN, "gaussian"),
}
HEAD = pytest.mark.parametrize("head", HEADS)
TIMED = pytest.mark.parametrize("times", TIMES)
CONDITIONED = pytest.mark.parametrize("returns", ["token", "none"])


def of(head: str, times: str = "embedded", **changes) -> DecisionTransformer:
    action, kind = HEADS[head]
    return agent(times, action, head=kind, **changes)


def with_part(given: Window, name: str, step: int, value: Tensor | float) -> Window:
    """The same window but for one part of one step."""
    part = getattr(given, name).clone()
    part[:, step] = value
    return given._replace(**{name: part})


def test_the_papers_shape_has_its_number_of_parameters():
    model = DecisionTransformer(DecisionConfig(*HOPPER, max_timestep=1000))
    tokens = (1 + 11 + 3) * 128 + 3 * 128 + 1000 * 128 + 2 * 128
    blocks = 3 * (12 * 128**2 + 13 * 128) + 2 * 128
    assert sum(p.numel() for p in model.parameters()) == tokens + blocks + 128 * 3 + 3


@TIMED
@CONDITIONED
@HEAD
def test_no_prediction_attends_to_its_own_action_or_anything_later(head, returns, times):
    """What may be attended to is: other values there change the prediction."""
    model = of(head, times, returns=returns)
    given, step = window(model), 3
    before = model(given)
    changed = {
        "observations": others(VECTOR, given.observations),
        "actions": others(HEADS[head][0], given.actions),
        "returns": given.returns + 0.5,
    }
    if returns == "none":
        assert torch.equal(model(given._replace(returns=changed.pop("returns"))), before)
    for name, part in changed.items():
        after = model(with_part(given, name, step, part[:, step]))
        first = step + (name == "actions")  # an action has an effect from the next step on
        assert torch.equal(after[:, :first], before[:, :first])
        assert not torch.isclose(after[:, first:], before[:, first:], atol=1e-6).all(-1).any()


@TIMED
@CONDITIONED
@HEAD
def test_padding_of_any_length_changes_nothing(head, returns, times):
    model = of(head, times, returns=returns)
    given = window(model, rows=4, lengths=(6, 4, 1, 3))
    predictions = model(given)
    for row, length in enumerate(given.lengths.tolist()):
        alone = Window(*(part[row : row + 1, :length] for part in given[:-1]), torch.tensor([length]))
        torch.testing.assert_close(predictions[row : row + 1, :length], model(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("observation", [FROM_ONE, BELOW_ZERO], ids=str)
def test_padding_need_not_be_an_observation(observation):
    model = agent(observation=observation)
    given = window(model, lengths=(6, 4, 1))
    alone = Window(*(part[2:, :1] for part in given[:-1]), torch.tensor([1]))
    torch.testing.assert_close(model(given)[2:, :1], model(alone), atol=1e-5, rtol=1e-4)


@HEAD
def test_what_stands_at_padding_has_no_effect_not_even_on_the_gradient(head):
    model = of(head)
    clean = window(model, lengths=(6, 4, 1))
    dirty = window(model, seed=7)
    valid = clean.valid()
    mixed = Window(
        *(torch.where(valid.view(3, 6, *[1] * (a.dim() - 2)), a, b) for a, b in zip(clean[:3], dirty[:3], strict=True)),
        *clean[3:],
    )
    found = []
    for given in (clean, mixed):
        model.zero_grad()
        torch.manual_seed(0)
        loss = DecisionLoss(model)(*given)
        loss.backward()
        found.append((loss, [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(found[0], found[1])


def test_the_loss_of_a_discrete_action_is_its_cross_entropy():
    model = of("from one")
    given = window(model, lengths=(6, 4, 1))
    log_p = model(given).double().log_softmax(-1)
    expected = -sum(log_p[b, t, given.actions[b, t] - 1] for b in range(3) for t in range(int(given.lengths[b])))
    loss = DecisionLoss(model)(*given)
    assert (loss.shape, loss.dtype) == ((), torch.float32)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert count_steps(*given) == 6 + 4 + 1


def test_the_loss_of_several_choices_is_the_sum_over_them():
    model = of("several")
    given = window(model)
    log_p = [part.log_softmax(-1) for part in model(given).split([3, 4], dim=-1)]
    expected = -sum(p.gather(-1, given.actions[..., i : i + 1]).sum() for i, p in enumerate(log_p))
    torch.testing.assert_close(DecisionLoss(model)(*given), expected)


def test_the_loss_of_a_continuous_action_is_its_squared_error_in_units_of_the_bounds():
    model = of("bounded")
    given = window(model)
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 1.0])
    unit = 2 * (given.actions - low) / (high - low) - 1
    expected = (model(given) - unit).square().mean(-1).sum()
    torch.testing.assert_close(DecisionLoss(model)(*given), expected)
    assert model(given).abs().max() < 1


@pytest.mark.parametrize("bound", [1.0, None])
def test_a_gaussian_head_gives_the_density_that_it_draws_from(bound):
    head = GaussianHead(16, Space("box", (1,), "float32", (bound and -bound,), (bound,)), entropy_weight=0.0)
    line = torch.linspace(-1, 1, 20_001)[1:-1] if bound else torch.linspace(-9, 9, 20_001)
    one = torch.tensor([[0.3, -0.7]])  # mean, log deviation
    density = (-head.loss(one.expand(len(line), -1), line.unsqueeze(-1))).exp()
    assert torch.trapezoid(density, line).item() == pytest.approx(1, abs=1e-3)
    draws = torch.rand(40_000, 1, generator=torch.Generator().manual_seed(0))
    drawn = head.choose(one.expand(len(draws), -1), 1.0, draws)
    for edge in (-0.5, 0.0, 0.6):
        share = torch.trapezoid(density[line <= edge], line[line <= edge]).item()
        assert (drawn <= edge).float().mean().item() == pytest.approx(share, abs=0.01)


def test_entropy_is_rewarded_by_its_weight():
    """H of a normal of deviation s is log s + log(2 pi e) / 2 a number; without bounds nothing else counts."""
    plain, rewarded = (of("open gaussian", entropy_weight=w).head for w in (0.0, 0.5))
    prediction = torch.cat((torch.zeros(50_000, 4), torch.full((50_000, 4), -1.0)), dim=-1)
    actions = torch.zeros(50_000, 2, 2)
    gained = plain.loss(prediction, actions).mean() - rewarded.loss(prediction, actions).mean()
    assert gained.item() == pytest.approx(0.5 * 4 * (-1 + math.log(2 * math.pi * math.e) / 2), abs=0.02)


def test_an_action_at_its_bound_has_a_finite_loss():
    model = of("gaussian")
    given = window(model)
    edge = given._replace(actions=torch.tensor([2.0, 0.0]).expand_as(given.actions))
    loss = DecisionLoss(model)(*edge)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@HEAD
def test_a_chosen_action_is_one_of_the_space(head):
    model = of(head)
    space = HEADS[head][0]
    prediction = 5 * torch.randn(64, model(window(model)).shape[-1])
    drawn = torch.rand(64, model.head.draws)
    for actions in (
        model.head.choose(prediction),
        model.head.choose(prediction, 1.0, drawn if len(drawn[0]) else None),
    ):
        assert actions.shape == (64, *space.shape)
        gym = space.gym()
        assert all(gym.contains(action[()] if space.shape == () else action) for action in actions.numpy())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_drawn_choices_come_as_often_as_predicted(temperature):
    head = of("discrete").head
    logits = torch.tensor([[1.0, 0.0, -1.0]])
    drawn = torch.rand(40_000, 3, generator=torch.Generator().manual_seed(0))
    chosen = head.choose(logits.expand(len(drawn), -1), temperature, drawn)
    share = torch.bincount(chosen, minlength=3) / len(drawn)
    torch.testing.assert_close(share, (logits[0] / temperature).softmax(-1), atol=0.01, rtol=0)


def test_the_head_follows_the_actions():
    assert isinstance(of("several").head, CategoricalHead)
    assert isinstance(of("open").head, DeterministicHead)
    assert isinstance(of("gaussian").head, GaussianHead)
    for action, head in ((DISCRETE, "gaussian"), (SEVERAL, "deterministic"), (BOX, "categorical")):
        with pytest.raises(ValueError, match=f"head = '{head}' does not fit actions of"):
            config(action=action, head=head)
    whole = Space("box", (2,), "int64", (0.0,), (5.0,))
    with pytest.raises(ValueError, match="are not handled"):
        config(action=whole)


def test_a_config_goes_through_json_and_says_what_is_wrong():
    full = config("learned", SEVERAL, IMAGE)
    assert from_dict(DecisionConfig, to_dict(full)) == full
    with pytest.raises(ValueError, match="core.position.kind = 'rotary' must be 'none' with timesteps = 'embedded'"):
        DecisionConfig(core=TransformerConfig(dim=16, depth=1, n_heads=1))
    with pytest.raises(ValueError, match="core.position.kind = 'none' .* timesteps = 'embedded'"):
        DecisionConfig(timesteps="position")
    with pytest.raises(ValueError, match="action_space = None: set them"):
        DecisionTransformer(DecisionConfig(VECTOR, max_timestep=9))
    with pytest.raises(ValueError, match="max_timestep = 0: set it"):
        DecisionTransformer(DecisionConfig(*HOPPER))
    with pytest.raises(ValueError, match="context = 0 must be above 0"):
        DecisionConfig(context=0)
    assert config(head="auto").unused().keys() == {"entropy_weight"}
    assert config("rotary").unused().keys() == {"entropy_weight", "max_timestep"}
    assert not config(action=BOX, head="gaussian").unused()


def test_only_a_table_limits_the_length_of_an_episode():
    assert config("embedded").longest == config("learned").longest == 200
    assert config("rotary", max_timestep=0).longest is None


@pytest.mark.parametrize("observation", [VECTOR, IMAGE, DISCRETE, SEVERAL, OPEN], ids=str)
def test_every_kind_of_observation_has_an_effect(observation):
    model = agent(observation=observation)
    given = window(model)
    after = model(given._replace(observations=others(observation, given.observations)))
    assert not torch.isclose(after, model(given), atol=1e-6).all(-1).any()


def test_embedding_core_and_head_are_three_modules_that_make_the_whole():
    from core.graph import causal

    model = agent("rotary")
    given = window(model)
    x, coords = model.embed(given)
    hidden = model.core(x, coords, causal())
    torch.testing.assert_close(model.head(hidden[:, 1::3]), model(given))
    assert {name for name, _ in model.named_children()} == {"embed", "core", "head"}


def test_tables_are_spared_from_decay_and_matrices_of_the_blocks_are_for_muon():
    model = agent("learned", SEVERAL, DISCRETE)
    spared = model.no_weight_decay()
    assert spared == {"embed.actions.table.weight", "embed.observations.table.weight", "core.position.tables.0.weight"}
    groups = build_optimizer(model, OptimizerConfig(kind="muon")).param_groups
    of_muon = {p for group in groups if group["kind"] == "muon" for p in group["params"]}
    assert of_muon == {p for name, p in model.named_parameters() if ".blocks." in f".{name}" and p.dim() == 2}


def test_a_deep_copy_learns_apart():
    model = agent()
    twin, given = copy.deepcopy(model), window(model)
    before = model(given)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(0.1)
    assert torch.equal(model(given), before)
    assert not torch.isclose(twin(given), before).all()


@HEAD
def test_a_model_learns_to_repeat_what_it_is_shown(head):
    """Actions that follow from the return asked for: the loss falls below what guessing can reach."""
    torch.manual_seed(0)
    action, kind = HEADS[head]
    model = DecisionTransformer(config(action=action, head=kind, entropy_weight=0.0))
    given = window(model, rows=16)
    known = values(action, 2, seed=3)  # two actions, one for low and one for high returns
    given = given._replace(returns=given.returns.round(), actions=known[given.returns.squeeze(-1).round().long()])
    objective, optimizer = DecisionLoss(model), torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(120):
        loss = objective(*given) / count_steps(*given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    chosen = model.eval().head.choose(model(given).flatten(0, 1))
    if action.kind == "box":
        assert losses[-1] < losses[0] / 4 or losses[-1] < -1  # at most 0.011 +- 0.009 of it, over seeds 0-4
    else:
        right = (chosen == given.actions.flatten(0, 1)).float().mean()
        assert right > 0.9  # all, or all but one of them, over seeds 0-4; guessing has 0.5
