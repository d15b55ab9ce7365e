"""Foreign weights: a table read both ways, complete or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core.files.json_files import read_json
from core.files.tensors import Safetensors, Uninitialised
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


def test_uninitialised_modules_draw_no_random_numbers_and_others_do() -> None:
    before = torch.random.get_rng_state()
    with Uninitialised():
        nn.Linear(3, 3)
        nn.init.normal_(tensor=torch.empty(3))
    assert torch.equal(torch.random.get_rng_state(), before)
    nn.Linear(3, 3)
    assert not torch.equal(torch.random.get_rng_state(), before)


def test_a_folder_of_shards_reads_as_one(tmp_path: Path) -> None:
    a, b = torch.randn(2), torch.randn(3)
    save_file({"a": a}, tmp_path / "one.safetensors")
    save_file({"b": b}, tmp_path / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    weights = Safetensors(tmp_path)
    assert dict(weights).keys() == {"a", "b"}
    assert len(weights) == 2
    assert torch.equal(weights["a"], a)
    assert torch.equal(weights["b"], b)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "one.safetensors", "c": "one.safetensors"}}, "no shard in .* holds c"),
        ({"weight_map": {"a": "two.safetensors"}}, "there is no two.safetensors in"),
        ({"weight_map": {"a": "../one.safetensors"}}, "lists '../one.safetensors'"),
        ({"weight_map": {"a": "one.bin"}}, "lists 'one.bin'"),
        ({"weight_map": {"a": 1}}, "lists 1"),
        ({"weight_map": {}}, "has no weight_map"),
        ([], "must hold a JSON object, got list"),
    ],
)
def test_an_index_that_lies_is_refused(index: object, message: str, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=message):
        Safetensors(tmp_path)


def test_a_cut_file_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(100)}, file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        Safetensors(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth"])
def test_a_pickle_is_named_and_never_read(name: str, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(ValueError, match=f"no model.safetensors in .*; {name} is a pickle"):
        Safetensors(tmp_path)


def test_json_that_is_absent_or_broken_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no config.json in"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        read_json(tmp_path / "config.json")
