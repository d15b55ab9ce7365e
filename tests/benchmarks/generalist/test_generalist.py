"""One trunk behind three doors: what is shared is one, what is not stays apart, and what is left are ordinary runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.generalist.__main__ import parse, shown
from benchmarks.generalist.doors import MUON, PANELS, Door, Settings, open_doors
from benchmarks.generalist.training import Weighed, one_of_each, train
from benchmarks.generalist.trunk import Generalist, gradient_cosines
from core.training.order import Share
from core.training.state import Gradients
from decision.collecting.config import CollectConfig
from decision.collecting.record import collect
from decision.trained import load as load_agent
from text.trained import load as load_text
from vision.trained import load as load_classifier


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    file = tmp_path_factory.mktemp("cartpole") / "random.npz"
    collect(CollectConfig(env="CartPole-v1", steps=400, out=str(file)))
    return Settings(steps=2, dim=64, depth=2, text="pydoc", vision="digits", decision=str(file), episodes=2)


@pytest.fixture(scope="module")
def doors(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Door]:
    return open_doors(tmp_path_factory.mktemp("doors"), settings)


def built(doors: dict[str, Door]) -> tuple[dict[str, nn.Module], Generalist]:
    torch.manual_seed(0)
    models = {name: door.build() for name, door in doors.items()}
    for p in (p for model in models.values() for p in model.parameters() if p.requires_grad):
        nn.init.normal_(p, std=0.1)  # branches that begin at zero would hide what passes through them
    return models, Generalist(models)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_blocks_are_one_and_doors_are_three(doors: dict[str, Door]) -> None:
    models, generalist = built(doors)
    text, *others = models.values()
    shared = {id(p) for p in generalist.shared}
    for model in others:
        assert {id(p) for p in model.core.blocks.parameters()} <= shared  # type: ignore[union-attr]
        own = [p for p in model.parameters() if id(p) not in shared]
        assert own
        assert not {id(p) for p in own} & {id(p) for p in text.parameters()}
    assert sum(p.numel() for p in generalist.parameters()) < sum(
        p.numel() for model in models.values() for p in model.parameters()
    )


def test_every_parameter_is_updated_in_one_way(doors: dict[str, Door]) -> None:
    from core.optim.groups import build_optimizer, parameter_roles

    _, generalist = built(doors)
    roles, names = parameter_roles(generalist), {id(p): name for name, p in generalist.named_parameters()}
    hidden = {names[id(p)] for p in generalist.shared if p.ndim == 2}
    assert {name for name, role in roles.items() if role.matrices} == hidden
    updated = [id(p) for group in build_optimizer(generalist, MUON).param_groups for p in group["params"]]
    assert sorted(updated) == sorted(id(p) for p in generalist.parameters() if p.requires_grad)


def test_a_task_is_not_touched_by_the_batch_of_another(doors: dict[str, Door]) -> None:
    """Its own weights get the same gradients with the others and without them, and in the trunk gradients add up."""
    models, generalist = built(doors)
    batches = one_of_each(doors, 0, Share(), 0.0)
    alone = {}
    for name, batch in zip(doors, batches, strict=True):
        generalist.zero_grad()
        doors[name].task.objective(models[name])(*batch).backward()
        alone[name] = gradients(generalist)
        assert not any(key.split(".")[1] != name and "core." not in key for key in alone[name])
    generalist.zero_grad()
    for name, batch in zip(doors, batches, strict=True):
        doors[name].task.objective(models[name])(*batch).backward()
    for key, together in gradients(generalist).items():
        parts = [each[key] for each in alone.values() if key in each]
        torch.testing.assert_close(together, sum(parts[1:], parts[0]), atol=1e-4, rtol=1e-4)
        assert len(parts) > 1 or torch.equal(together, parts[0])


def test_blocks_of_another_shape_are_refused(doors: dict[str, Door], settings: Settings, tmp_path: Path) -> None:
    text = PANELS["text"]
    other = text.open(text.configure(tmp_path, Settings(steps=2, dim=64, depth=1, text="pydoc")))
    with pytest.raises(ValueError, match="blocks cannot be shared: 1.attention"):
        Generalist({"a": doors["text"].build(), "b": other.build()})


def test_cosines_between_gradients() -> None:
    a, b = [torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])], [torch.tensor([[0.0, 2.0]]), torch.tensor([0.0])]
    expected = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(gradient_cosines([a, b, [-2 * g for g in a]]), expected)


def test_relative_losses_begin_equal_and_follow_their_mean() -> None:
    weighed = Weighed(nn.Identity(), "relative")
    assert float(weighed(torch.tensor(4.0))) == 4.0
    weighed.note(Gradients(torch.tensor(4.0), 1))
    assert float(weighed(torch.tensor(4.0))) == 1.0
    weighed.note(Gradients(torch.tensor(0.5), 1))  # a loss of 2, weighed
    assert weighed.level == pytest.approx(0.99 * 4.0 + 0.01 * 2.0)
    assert Weighed(nn.Identity(), "equal").weight == 1.0


def test_what_is_left_are_ordinary_runs_over_the_same_weights(settings: Settings, tmp_path: Path) -> None:
    figures, angles, steps, _ = train(tmp_path / "one", settings)
    assert (steps, angles.shape, angles.diagonal().tolist()) == (2, (3, 3), pytest.approx([1, 1, 1]))
    assert all(figures[name][panel.figure] >= 0 for name, panel in PANELS.items())
    loaded = [load(tmp_path / "one" / name) for name, load in zip(PANELS, LOADERS, strict=True)]
    first, *others = (each.model.core for each in loaded)  # type: ignore[attr-defined]
    for other in others:
        same = zip(first.blocks.parameters(), other.blocks.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in same)


LOADERS = (load_text, load_classifier, load_agent)


def test_the_table_has_the_columns_that_were_measured() -> None:
    figures = {"text": 2.0, "vision": 0.5, "decision": 500.0}
    record = {"steps": 3, "seconds": 1.0, "cosines": [[1.0, 0, 0]] * 3, "generalist": figures, "tuned": figures}
    assert "one set of weights" in shown(record)
    assert "same samples" not in shown(record)
    with pytest.raises(ValueError, match="columns = 'speed' is not one of"):
        parse(["--columns", "speed"])
