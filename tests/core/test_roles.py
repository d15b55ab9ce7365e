"""What a model declares of its parameters, down to each of them."""

from __future__ import annotations

from torch import nn

from core.roles import ParameterRole, parameter_roles
from core.transformer import Transformer
from tests.core.helpers import shape


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
