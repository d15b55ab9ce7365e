"""Adapters add nothing at first, then only what they say, where they say; merging them changes nothing but rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.adapters.config import AdapterConfig
from core.adapters.lora import AdaptedLinear, adapt, adapted_maps, base_fingerprint, checkpoint_state, merge
from core.attention import StackedLinear
from tests.core.helpers import awake, shape
from text.models.gpt import GPT, GPTConfig

KINDS = ("lora", "dora")
IDS = torch.arange(36).reshape(3, 12) % 23


def model(**changes: object) -> GPT:
    core = shape(n_kv_heads=2, feedforward="swiglu", **changes)  # parts of different widths
    return awake(GPT(GPTConfig(vocab_size=23, context=16, head="untied", core=core)))


def moved(network: GPT, seed: int = 5) -> GPT:
    """The same with adapters that add something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if ".adapters." in name:
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", [("all",), ("qkv", "out"), ("q", "v"), ("attention.out", "value")])
def test_at_first_the_same_bits_and_merged_the_same_outputs(kind: str, targets: tuple[str, ...]) -> None:
    plain = model()
    network = model()
    adapt(network, AdapterConfig(kind, rank=3, targets=targets))
    assert torch.equal(network(IDS), plain(IDS))
    moved(network).double()  # in which rounding hides nothing
    expected = network(IDS)
    assert (expected - plain(IDS)).abs().max() > 0.01
    merge(network)
    assert not adapted_maps(network)
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert {type(m) for m in network.modules()} == {type(m) for m in plain.modules()}
    torch.testing.assert_close(network(IDS), expected, rtol=1e-10, atol=1e-10)


def test_by_hand() -> None:
    """W x + b + (alpha / r) B A x on the rows of q and v alone; with DoRA, rows of length m (Liu 2024, eq. 5)."""
    base = StackedLinear(6, {"q": 4, "k": 2, "v": 2}, bias=True)
    weight, bias, x = base.weight.detach().clone(), base.bias.detach().clone(), torch.randn(5, 6)
    for kind in KINDS:
        layer = AdaptedLinear(base, ["q", "v"], AdapterConfig(kind, rank=2, alpha=3.0))
        expected, rows = weight.clone(), {"q": slice(0, 4), "v": slice(6, 8)}
        for name, place in rows.items():
            adapter = layer.adapters[name]
            adapter.up.data.normal_()
            expected[place] += 3.0 / 2 * adapter.up.detach() @ adapter.down.detach()
            if kind == "dora":
                adapter.magnitude.data.mul_(1.5)
                own = expected[place]
                expected[place] = 1.5 * weight[place].norm(dim=1, keepdim=True) * own / own.norm(dim=1, keepdim=True)
        torch.testing.assert_close(layer(x), x @ expected.T + bias, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(layer.merged().weight, expected, rtol=1e-6, atol=1e-6)


def test_what_is_trained_and_what_a_checkpoint_holds() -> None:
    network = model()
    everything = sum(p.numel() for p in network.parameters())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fingerprint = base_fingerprint(adapt(network, AdapterConfig("lora", rank=2, targets=("q", "v"))))
    names = {name for name, p in network.named_parameters() if p.requires_grad}
    places = [f"core.blocks.{n}.attention.branch.qkv.adapters.{part}" for n in range(2) for part in "qv"]
    assert names == {f"{place}.{matrix}" for place in places for matrix in ("down", "up")}
    assert checkpoint_state(network).keys() == names
    assert checkpoint_state(model()).keys() == before.keys()
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 2 * 2 * (32 + 32 + 32 + 16)
    assert everything == sum(tensor.numel() for tensor in before.values())
    optimizer = torch.optim.SGD((p for p in network.parameters() if p.requires_grad), 0.5)
    network(IDS).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())
    assert base_fingerprint(network) == fingerprint
    network.embed.weight.data[0, 0] += 1e-6
    assert base_fingerprint(network) != fingerprint
    assert base_fingerprint(model()) is None


def test_under_autocast_the_type_is_that_of_the_map() -> None:
    for kind in KINDS:
        network = model()
        layer = adapt(network, AdapterConfig(kind)).core.blocks[0].attention.branch.qkv
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(torch.randn(1, 2, 32)).dtype == torch.bfloat16


def test_a_new_head_is_trained_whole() -> None:
    network = adapt(model(), AdapterConfig("lora"), whole=("head",))
    assert {"head.weight"} < checkpoint_state(network).keys()
    assert "embed.weight" not in checkpoint_state(network)


def test_bad_targets_and_idle_settings_are_named() -> None:
    with pytest.raises(ValueError, match="'qvk' is no linear map; did you mean 'qkv'"):
        adapt(model(), AdapterConfig("lora", targets=("qvk",)))
    with pytest.raises(ValueError, match="'head' is no linear map"):  # whose matrix may be the embedding's
        adapt(model(), AdapterConfig("lora", targets=("head",)))
    with pytest.raises(ValueError, match="rank = 0 must be above 0"):
        AdapterConfig("lora", rank=0)
    with pytest.raises(ValueError, match="rank = 4 has no effect: adapter = none"):
        AdapterConfig(rank=4)
    with pytest.raises(ValueError, match="names no linear map"):
        AdapterConfig("lora", targets=(",",))
    assert AdapterConfig("lora", targets=("qkv,out", "up")).names == ("qkv", "out", "up")


def test_gradients_of_tensors_reach_both_matrices(tmp_path: Path) -> None:
    network = moved(adapt(model(), AdapterConfig("dora", targets=("all",))))
    network(IDS).square().mean().backward()
    grads: list[Tensor | None] = [p.grad for p in network.parameters() if p.requires_grad]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)
