"""Muon against its mathematics and against torch's; which parameter goes where."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.devices import native_dtype
from core.optim.config import OptimizerConfig
from core.optim.groups import ParameterRole, build_optimizer, parameter_roles, set_learning_rate
from core.optim.muon import MuonAdamW, orthogonalize, scale
from core.training.state import load_optimizer, optimizer_tensors
from core.transformer import Transformer
from tests.core.helpers import shape
from tests.core.training.toy import Toy, ToyConfig

SHAPES = [(24, 24), (16, 40), (40, 16), (16, 20), (20, 16)]


def newton_schulz(matrix: Tensor) -> Tensor:
    """The iteration as the paper writes it, one matrix at a time, in float64."""
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_is_orthogonalised_like_each_matrix_alone(shape: tuple[int, int]) -> None:
    stack = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.stack([newton_schulz(matrix) for matrix in stack])
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-5), (torch.bfloat16, 0.03)):
        torch.testing.assert_close(orthogonalize(stack, dtype).double(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_end_near_one(shape: tuple[int, int]) -> None:
    stack = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalize(stack, torch.float32))
    assert values.max() < 1.25
    assert values.median() > 0.65


def test_a_gradient_of_zero_stays_zero() -> None:
    assert torch.equal(orthogonalize(torch.zeros(2, 4, 8), torch.float32), torch.zeros(2, 4, 8))


@pytest.mark.parametrize("kind", ["original", "match_rms_adamw"])
def test_muon_steps_like_torch(kind: str) -> None:
    """torch.optim.Muon computes in bfloat16 throughout, so the two agree to its precision."""
    ours = [nn.Parameter(torch.randn(s, generator=torch.Generator().manual_seed(2))) for s in SHAPES]
    theirs = copy.deepcopy(ours)
    group = {"params": ours, "lr": 0.02, "weight_decay": 0.1, "momentum": 0.95, "scale": kind, "kind": "muon"}
    mine = MuonAdamW([group], parts={}, dtype=torch.bfloat16)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn=kind)
    for seed in range(4):
        gradients(nn.ParameterList(ours), seed)
        gradients(nn.ParameterList(theirs), seed)
        mine.step()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        update = 0.02 * scale(kind, *a.shape)
        torch.testing.assert_close(a, b, atol=0.02 * update * 4, rtol=0)


def test_muon_steps_like_its_mathematics() -> None:
    """Momentum by lerp, Nesterov, decoupled decay, q, k and v apart: in float64, against a loop in plain torch."""
    torch.manual_seed(3)
    weight = nn.Parameter(torch.randn(24, 16, dtype=torch.float64))
    expected, buffer = weight.detach().clone(), torch.zeros(24, 16, dtype=torch.float64)
    group = {"params": [weight], "lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "scale": "original"}
    optimizer = MuonAdamW([group | {"kind": "muon"}], parts={weight: (12, 8, 4)}, dtype=torch.float64)
    for _ in range(3):
        weight.grad = torch.randn_like(weight)
        optimizer.step()
        buffer = 0.9 * buffer + 0.1 * weight.grad
        update = 0.1 * weight.grad + 0.9 * buffer
        directions = torch.cat([newton_schulz(part) for part in update.split((12, 8, 4))])
        expected = expected * (1 - 0.02 * 0.1) - 0.02 * directions  # no part has more rows than columns
    torch.testing.assert_close(weight.detach(), expected, atol=1e-12, rtol=1e-12)


def test_the_rest_steps_exactly_like_torch_adamw() -> None:
    config = OptimizerConfig(kind="muon", weight_decay=0.3)
    torch.manual_seed(4)
    model = Toy(ToyConfig(steps=1))
    twin = copy.deepcopy(model)
    ours = build_optimizer(model, config)
    theirs = build_optimizer(twin, OptimizerConfig(kind="adamw", weight_decay=0.3))
    for seed in range(3):
        for net, optimizer in ((model, ours), (twin, theirs)):
            gradients(net, seed)
            optimizer.step()
    hidden = {name for name, role in parameter_roles(model).items() if role.matrices}
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b) == (name not in hidden), name


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_parameter_is_in_exactly_one_group(kind: str) -> None:
    model = Toy(ToyConfig(steps=1))  # its head is tied to its embedding
    groups = build_optimizer(model, OptimizerConfig(kind=kind)).param_groups
    grouped = [p for group in groups for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped})
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters()}


def test_matrices_decay_and_hidden_ones_go_to_muon() -> None:
    class Shy(Toy):
        def no_weight_decay(self) -> set[str]:
            return {"embedding.weight"}

    model = Shy(ToyConfig(steps=1))
    names = {id(p): name for name, p in model.named_parameters()}
    groups = build_optimizer(model, OptimizerConfig(kind="muon")).param_groups
    found = {(g["kind"], g["weight_decay"]): sorted(names[id(p)] for p in g["params"]) for g in groups}
    assert set(found) == {("adamw", 0.0), ("muon", 0.0)}
    assert all(name.startswith("blocks") and name.endswith("weight") for name in found["muon", 0.0])
    assert len(found["muon", 0.0]) == 6
    assert "embedding.weight" in found["adamw", 0.0]
    decayed = build_optimizer(Toy(ToyConfig(steps=1)), OptimizerConfig(kind="adamw")).param_groups
    assert [g["weight_decay"] for g in decayed] == [0.1, 0.0]
    assert all(p.ndim >= 2 for p in decayed[0]["params"])
    assert all(p.ndim < 2 for p in decayed[1]["params"])


def test_layers_below_the_head_learn_at_rates_that_decay() -> None:
    class Layered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
            self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

        def layered_modules(self) -> list[list[nn.Module]]:
            return [[self.embed], *([block] for block in self.blocks)]

    model = Layered()
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizerConfig(lr=1.0, layer_decay=0.5))
    rates = {names[id(p)]: g["lr"] for g in optimizer.param_groups for p in g["params"]}
    weights = {name.removesuffix(".weight"): lr for name, lr in rates.items() if name.endswith("weight")}
    assert weights == {"head": 1.0, "blocks.1": 0.5, "blocks.0": 0.25, "embed": 0.125}
    assert all(rates[f"{name}.bias"] == lr for name, lr in weights.items())
    assert set_learning_rate(optimizer, 0.1) == pytest.approx(0.1), "the rate that is told is the head's"
    with pytest.raises(ValueError, match=r"layer_decay = 0.5 needs kind = 'adamw'"):
        OptimizerConfig(kind="muon", layer_decay=0.5)


def test_only_what_a_model_declares_is_a_hidden_matrix() -> None:
    class Declared(Toy):
        def layered_modules(self) -> list[list[nn.Module]]:
            return [[], [self.blocks[0].up]]

    model = Declared(ToyConfig(steps=1))
    groups = build_optimizer(model, OptimizerConfig(kind="muon")).param_groups
    assert [g["params"] for g in groups if g["kind"] == "muon"] == [[model.blocks[0].up.weight]]


def test_frozen_parameters_are_left_out_and_muon_needs_a_matrix() -> None:
    model = Toy(ToyConfig(steps=1))
    model.blocks.requires_grad_(False)
    for kind in ("adamw", "muon"):
        grouped = build_optimizer(model, OptimizerConfig(kind=kind)).param_groups
        assert [[p is model.head.weight for p in g["params"]] for g in grouped] == [[True]]
    with pytest.raises(ValueError, match="no hidden matrix in Linear"):
        build_optimizer(nn.Linear(3, 2), OptimizerConfig(kind="muon"))
    with pytest.raises(ValueError, match="no trainable parameter"):
        build_optimizer(model.requires_grad_(False), OptimizerConfig())


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_restored_optimizer_goes_on_bit_for_bit(kind: str) -> None:
    config = OptimizerConfig(kind=kind)
    torch.manual_seed(5)
    model = Toy(ToyConfig(steps=1))
    optimizer = build_optimizer(model, config)
    for seed in range(3):
        gradients(model, seed)
        optimizer.step()
    twin = copy.deepcopy(model)
    restored = build_optimizer(twin, config)
    saved = {name: state.clone() for name, state in optimizer_tensors(model, optimizer).items()}
    load_optimizer(twin, restored, saved, origin=Path("toy"))
    for net, used in ((model, optimizer), (twin, restored)):
        gradients(net, 7)
        used.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_the_schedule_multiplies_each_groups_own_peak() -> None:
    optimizer = build_optimizer(Toy(ToyConfig(steps=1)), OptimizerConfig(kind="muon", lr=1e-3, muon_lr=0.04))
    for multiplier in (0.5, 0.25):  # from the peak each time, not from the rate before
        assert set_learning_rate(optimizer, multiplier) == 1e-3 * multiplier
        assert {g["kind"]: g["lr"] for g in optimizer.param_groups} == {
            "adamw": 1e-3 * multiplier,
            "muon": 0.04 * multiplier,
        }


def test_updates_have_the_documented_size() -> None:
    assert scale("original", 10, 40) == 1.0
    assert scale("original", 40, 10) == 2.0
    assert scale("match_rms_adamw", 40, 10) == pytest.approx(0.2 * math.sqrt(40))
    direction = orthogonalize(torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(6)), torch.float32)
    rms = (scale("match_rms_adamw", 64, 64) * direction).pow(2).mean().sqrt().item()
    assert rms == pytest.approx(0.2, rel=0.25)


def test_the_native_dtype_is_one_that_muon_can_use() -> None:
    assert native_dtype(torch.device("cpu")) in (torch.bfloat16, torch.float32)
    assert native_dtype(torch.device("meta")) is torch.float32


def test_a_model_that_declares_nothing_has_one_layer_and_no_hidden_matrix():
    assert parameter_roles(nn.Linear(3, 2)) == {
        "weight": ParameterRole(True, (), 1),
        "bias": ParameterRole(False, (), 1),
    }


def test_every_parameter_of_a_stack_has_its_role():
    config = shape("learned", n_kv_heads=2, embedding_norm="layernorm", modulation="adaln", feedforward="swiglu")
    roles = parameter_roles(Transformer(config, (16,), role="cross"))
    assert list(roles) == [name for name, _ in Transformer(config, (16,), role="cross").named_parameters()]
    expected = {
        "position.tables.0.weight": ParameterRole(True, (), 0),
        "embedding_norm.weight": ParameterRole(False, (), 0),
        "blocks.0.attention.branch.qkv.weight": ParameterRole(True, (32, 16, 16), 1),
        "blocks.0.attention.branch.out.weight": ParameterRole(True, (32,), 1),
        "blocks.0.attention.branch.out.bias": ParameterRole(False, (), 1),
        "blocks.0.attention.modulation.weight": ParameterRole(True, (32, 32, 32), 1),
        "blocks.1.cross_attention.branch.kv.weight": ParameterRole(True, (16, 16), 2),
        "blocks.1.feedforward.branch.up.weight": ParameterRole(True, (128, 128), 2),
        "blocks.1.feedforward.norm.weight": ParameterRole(False, (), 2),
        "norm.bias": ParameterRole(False, (), 3),
    }
    assert {name: roles[name] for name in expected} == expected


def test_a_tied_parameter_is_what_it_is_first():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
            self.block, self.head.weight = nn.Linear(4, 4, bias=False), self.embed.weight

        def layered_modules(self) -> list[list[nn.Module]]:
            return [[self.embed], [self.block]]

        def no_weight_decay(self) -> set[str]:
            return {"embed.weight"}

    assert parameter_roles(Tied()) == {
        "embed.weight": ParameterRole(False, (), 0),
        "block.weight": ParameterRole(True, (4,), 1),
    }
