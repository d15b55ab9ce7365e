"""Activation checkpointing: the same outputs, gradients and random numbers, with less kept on the way."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from core.graph import causal
from core.positions import index
from core.scale.remat import blocks_of, rematerialise
from core.transformer import Transformer
from tests.core.helpers import awake, shape, tokens

DROPPING = {"dropout": 0.3, "attention_dropout": 0.2, "drop_path": 0.2}
KINDS = ("blocks", "selective")


class Live(TorchDispatchMode):
    """Counts the bytes of what operations made and something still holds."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.seen = 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.add(tensor.untyped_storage())
        return out

    def add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage.data_ptr(), storage.nbytes()
        if key not in self.seen:
            self.seen.add(key)
            self.bytes += size
            weakref.finalize(storage, self.drop, key, size)

    def drop(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.bytes -= size


def gradients(model: nn.Module, run: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Output, gradients by name and the state of the generator after one pass from a fixed one."""
    torch.manual_seed(5)
    model.zero_grad()
    y = run()
    y.square().sum().backward()
    return y.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}, torch.rand(3)


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [DROPPING, DROPPING | {"modulation": "adaln"}, DROPPING | {"feedforward": "swiglu", "norm": "rms", "window": 4}],
    ids=["plain", "modulated", "windowed"],
)
def test_gradients_are_those_of_a_block_that_keeps_everything(kind, settings, autocast) -> None:
    core = awake(Transformer(shape(**settings), (16,), role="cross")).train()
    x, memory = tokens(3, 12).requires_grad_(), tokens(3, 5, seed=4)
    condition = tokens(3, 1)[:, 0] if settings.get("modulation") else None

    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return core(x, index(12), causal(), memory=memory, condition=condition).float()

    kept = gradients(core, run)
    names = list(core.state_dict())
    rematerialise(core, kind)
    again = gradients(core, run)
    assert list(core.state_dict()) == names
    assert torch.equal(again[0], kept[0])
    assert again[1].keys() == kept[1].keys()
    for name, gradient in again[1].items():
        torch.testing.assert_close(gradient, kept[1][name], atol=1e-6, rtol=1e-6)
    assert torch.equal(again[2], kept[2])
    core.eval()
    with torch.no_grad():
        assert torch.equal(run(), run())


def test_less_is_kept_the_more_is_computed_again() -> None:
    held = []
    for kind in ("none", "selective", "blocks"):
        core = Transformer(shape(feedforward="swiglu", depth=4, **DROPPING), (64,)).train()
        rematerialise(core, kind)
        x = tokens(2, 64)
        with Live() as live:
            y = core(x, index(64), causal())
        held.append(live.bytes)
        del y
    assert held[0] > 1.5 * held[1] > 1.5 * 1.5 * held[2]


def test_a_model_without_blocks_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    assert blocks_of(model) == []
    rematerialise(model, "none")
    with pytest.raises(ValueError, match="remat = 'blocks' has no effect: Sequential has no blocks"):
        rematerialise(model, "blocks")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_block_forgets_too(kind) -> None:
    core = awake(Transformer(shape(), (16,))).train()
    x = tokens(3, 12).requires_grad_()

    def run() -> Tensor:
        return core(x, index(12), causal())

    kept = gradients(core, run)
    rematerialise(core, kind)
    core.compile(dynamic=False)
    again = gradients(core, run)
    for name, gradient in again[1].items():
        torch.testing.assert_close(gradient, kept[1][name], atol=1e-5, rtol=1e-5)
