"""A plan: what a run needs, as it is counted by hand and as it is measured when the run really happens."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.config import TransformerConfig
from core.flops import flop_counter
from core.graph import causal
from core.optim.config import OptimizerConfig
from core.positions import index
from core.scale.plan import LiveBytes, plan_run, planned_devices, print_plan
from core.switch import without_kernels
from core.training.config import RunConfig
from core.training.order import Batch, Share
from core.transformer import Transformer

TOKENS, ROWS, VOCABULARY = 64, 4, 50
CORE = TransformerConfig(dim=32, depth=3, n_heads=4, bias="none", norm="rms")


class Model(nn.Module):
    """Embedding, blocks, head."""

    def __init__(self, core: TransformerConfig = CORE):
        super().__init__()
        self.embed, self.core = nn.Embedding(VOCABULARY, core.dim), Transformer(core, (TOKENS,))
        self.head = nn.Linear(core.dim, VOCABULARY, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.core(self.embed(ids), index(ids.shape[1]), causal()))

    def layered_modules(self) -> list[list[nn.Module]]:
        below, *blocks = self.core.layered_modules()
        return [[self.embed, *below], *blocks]


class Loss(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.model(ids).float().flatten(0, 1), ids.flatten(), reduction="sum")


class Task:
    """As much of a task as a plan asks for."""

    unit = "tokens"
    objective = staticmethod(Loss)

    def __init__(self, config: RunConfig):
        self.config = config

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        rows = self.config.batch_size // share.world // share.accumulate
        return [(torch.zeros(rows, TOKENS, dtype=torch.int64),)] * share.accumulate

    @staticmethod
    def count(ids: Tensor) -> int:
        return ids.numel()


def plan(devices: str = "cpu", build: Any = Model, **settings: Any) -> Any:
    config = RunConfig(**{"steps": 1, "batch_size": ROWS, "precision": "fp32", "plan": devices} | settings)
    return plan_run(config, Task(config), build, planned_devices(devices, "fp32"))  # type: ignore[arg-type]


def test_flops_agree_with_the_sum_by_hand() -> None:
    multiplied = sum(p.numel() for p in Model().parameters()) - VOCABULARY * CORE.dim
    attention = 12 * CORE.depth * CORE.dim * TOKENS
    found = plan()
    assert found.flops == ROWS * TOKENS * (6 * multiplied + attention)
    assert found.units == ROWS * TOKENS
    assert found.parameters == multiplied + VOCABULARY * CORE.dim
    assert plan(remat="blocks").repeated_flops > found.repeated_flops


@pytest.mark.parametrize("remat", ["none", "selective", "blocks"])
def test_activations_are_those_of_a_real_step(remat: Any) -> None:
    from core.scale.remat import rematerialise

    model = Model()
    rematerialise(model, remat)
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    ids = torch.zeros(ROWS, TOKENS, dtype=torch.int64)
    known = [*model.parameters(), *model.buffers()]
    with without_kernels(), LiveBytes(known) as live, flop_counter() as counter:
        Loss(model)(ids).backward()
    found = plan(remat=remat)
    assert found.activations == pytest.approx(live.peak, rel=0.1)
    assert found.flops + found.repeated_flops == counter.get_total_flops()


def test_less_is_held_the_more_is_computed_again_or_cut() -> None:
    peaks = [plan(remat=kind).activations for kind in ("none", "selective", "blocks")]
    assert peaks[0] > peaks[1] > peaks[2]
    whole, cut = plan("4xH100"), plan("4xH100", distribute="fsdp", ema=0.9)
    assert whole.shards == 1
    assert cut.shards == 4
    for part in ("weights", "gradients", "optimizer"):
        assert getattr(cut, part) == getattr(whole, part) // 4
    assert (whole.average, cut.average) == (0, cut.weights)
    assert cut.gathered > 0
    assert plan("4xH100", distribute="fsdp", shard_size=2).weights == whole.weights // 2


def test_what_the_optimiser_holds_is_what_it_holds_after_a_step() -> None:
    from core.optim.groups import build_optimizer

    for kind in ("adamw", "muon"):
        settings = OptimizerConfig(kind=kind, muon_precision="fp32")  # type: ignore[arg-type]
        model = Model()
        optimizer = build_optimizer(model, settings)
        Loss(model)(torch.zeros(ROWS, TOKENS, dtype=torch.int64)).backward()
        optimizer.step()
        held = sum(t.nbytes for state in optimizer.state.values() for t in state.values() if t.ndim)
        assert plan(optimizer=settings).optimizer == held


def test_a_plan_is_printed_and_returned(capsys: pytest.CaptureFixture[str]) -> None:
    config = RunConfig(steps=1, batch_size=8, plan="2xH200")
    figures = print_plan(config, Task(config), Model)  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert f"{figures['parameters']:,}" in shown
    assert "expected at 40% of 2 x 989 TFLOP/s (H200)" in shown
    assert "of 141 GiB" in shown
    with pytest.raises(ValueError, match="batch_size = 8 must be divisible by 3 processes"):
        print_plan(dataclasses.replace(config, plan="3xH200"), Task(config), Model)  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["X100", "0xH100", "8x"])
def test_an_unknown_device_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"is not one of: here, cpu, B200, .*; or several, as 8xH100"):
        planned_devices(word, "fp32")


def test_a_model_without_blocks_has_no_plan() -> None:
    with pytest.raises(ValueError, match="plan = 'cpu' needs a model made of blocks, not a Embedding"):
        plan(build=partial(nn.Embedding, VOCABULARY, 8))


@pytest.mark.slow
def test_seven_billion_parameters_take_no_memory(tmp_path: Path) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    llama = TransformerConfig(dim=4096, depth=32, n_heads=32, ffn_dim=11008, feedforward="swiglu", norm="rms")
    found = plan("8xH100", partial(Model, llama), distribute="fsdp", batch_size=8, precision="bf16", remat="blocks")
    assert found.parameters > 6e9
    assert found.weights + found.gradients + found.optimizer == pytest.approx(16 * found.parameters / 8, rel=1e-6)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB: less than 1 GiB
