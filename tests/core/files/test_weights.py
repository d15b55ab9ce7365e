"""Foreign weights: a table read both ways, complete or refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.files.weights import (
    SAME,
    TRANSPOSED,
    Layout,
    Rule,
    each_layer,
    export_weights,
    import_weights,
    module,
    stacked,
)


class Tied(nn.Module):
    """Two layers, an embedding, and a head that is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 6) for _ in range(2))
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight


RULES = [
    *module("embed", "wte", kinds=("weight",)),
    *each_layer(module("layers.*", "h.*.a", "h.*.b", layout=stacked(2, 4)), 2),
]


@pytest.mark.parametrize(
    ("layout", "shape"),
    [(SAME, (3, 4)), (TRANSPOSED, (3, 4)), (TRANSPOSED, (3,)), (stacked(1, 2, 3), (6, 2)), (stacked(4), (4,))],
)
def test_a_layout_undoes_itself(layout: Layout, shape: tuple[int, ...]) -> None:
    ours = torch.randn(shape)
    assert torch.equal(layout.load(layout.save(ours)), ours)


def test_what_goes_out_comes_back_bit_for_bit_into_parameters_that_stay_tied() -> None:
    model, other = Tied(), Tied()
    weights = export_weights(model, RULES)
    assert set(weights) == {"wte.weight"} | {f"h.{n}.{m}.{k}" for n in (0, 1) for m in "ab" for k in ("weight", "bias")}
    import_weights(other, weights, RULES)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert other.head.weight is other.embed.weight
    with torch.no_grad():
        model.embed.weight.zero_()
    assert weights["wte.weight"].any(), "what is exported is a copy"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_converted_to_the_models_own(dtype: torch.dtype) -> None:
    model = Tied()
    weights = {name: tensor.to(dtype) for name, tensor in export_weights(model, RULES).items()}
    import_weights(model, weights, RULES)
    assert model.embed.weight.dtype == torch.float32
    assert torch.equal(model.embed.weight, weights["wte.weight"].float())


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    weights = export_weights(Tied(), RULES) | {name.replace("__", "."): t for name, t in changes.items()}
    return {name: tensor for name, tensor in weights.items() if tensor is not None}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (changed(wte__weight=None), "the weights lack wte.weight"),
        (changed(extra__gain=torch.zeros(1)), "the weights hold unknown extra.gain"),
        (changed(**{f"e{n}": torch.zeros(1) for n in range(6)}), "unknown e0, e1, e2, e3 and 2 more"),
        (changed(h__1__a__weight=torch.zeros(4, 2)), r"h.1.a.weight has the shape \(4, 2\), .* \(2, 4\)"),
        (changed(h__0__b__bias=torch.zeros(4, dtype=torch.int8)), "h.0.b.bias is of type int8"),
        (changed(head__weight=torch.zeros(5, 4)), "head.weight is not equal to wte.weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(weights: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_weights(Tied(), weights, RULES, repeated={"head.weight": "wte.weight"})


def test_only_what_is_listed_is_ignored_or_may_repeat() -> None:
    model = Tied()
    weights = export_weights(model, RULES)
    weights |= {"h.0.mask": torch.zeros(1), "head.weight": weights["wte.weight"]}
    with pytest.raises(ValueError, match="unknown h.0.mask, head.weight"):
        import_weights(model, weights, RULES)
    import_weights(model, weights, RULES, ignored=["h.*.mask"], repeated={"head.weight": "wte.weight"})


@pytest.mark.parametrize(
    ("rules", "message"),
    [(RULES[:-1], "no rule covers layers.1.bias"), ([*RULES, Rule("tail", ("t",))], "the model lacks tail")],
)
def test_a_table_that_does_not_cover_the_model_is_refused(rules: list[Rule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export_weights(Tied(), rules)
