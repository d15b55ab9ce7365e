"""Tensors in files: read by name, whole or refused; and from them into models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core.files.tensors import Safetensors, Uninitialised, load_into, read_tensors, write_tensors


def test_views_of_one_storage_are_kept_apart(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    views = {"whole": whole, "half": whole[5:], "again": whole, "transposed": whole.view(2, 5).T}
    write_tensors(tmp_path / "file.safetensors", views)
    read = read_tensors(tmp_path / "file.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in views.items())


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"bias": torch.zeros(1)}, "hold unknown bias"),
        ({"weight": torch.zeros(2, 2)}, r"weight has the shape \(2, 2\), the model needs \(3, 2\)"),
        ({"weight": None}, "lack weight"),
    ],
)
def test_weights_of_another_model_are_refused(change: dict[str, Tensor | None], names: str) -> None:
    model = nn.Linear(2, 3, bias=False)
    weights = {name: tensor for name, tensor in (model.state_dict() | change).items() if tensor is not None}
    with pytest.raises(ValueError, match=f"origin.safetensors: .*{names}"):
        load_into(model, weights, Path("origin.safetensors"))


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
