"""The losses of two short runs with fixed seeds, as they were when these lines were written.

A change of these numbers is a change of the mathematics: of the model, its initial weights, the order of data,
the optimiser or the schedule. The tolerance is for processors that round sums in another order.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.config import PositionConfig, TransformerConfig
from core.optim.config import OptimizerConfig, ScheduleConfig
from core.training.metrics import read_metrics
from text.config import TrainConfig
from text.models.gpt import GPTConfig
from text.train import train

PLAIN = TrainConfig(
    steps=20,
    batch_size=4,
    window_order="random",
    optimizer=OptimizerConfig(lr=3e-3, betas=(0.9, 0.99)),
    model=GPTConfig(
        context=24, core=TransformerConfig(dim=32, depth=2, n_heads=2, bias="none", position=PositionConfig("learned"))
    ),
)
"""GPT-2's block and AdamW, as nanoGPT trains it."""

MODERN = TrainConfig(
    steps=20,
    batch_size=4,
    accumulate=2,
    ema=0.9,
    optimizer=OptimizerConfig("muon", lr=3e-3, muon_lr=0.01, muon_precision="fp32"),
    schedule=ScheduleConfig(kind="wsd", warmup=0.1, decay=0.5, final=0.0),
    model=GPTConfig(
        context=24,
        head="untied",
        core=TransformerConfig(
            dim=32, depth=2, n_heads=4, n_kv_heads=2, bias="none", norm="rmsnorm", qk_norm="rms",
            feedforward="relu2", init="zero-residual",
        ),
    ),
)  # fmt: skip
"""Rotary positions, grouped heads, RMSNorm, squared ReLU and Muon, with averaged weights."""

GOLDEN = {  # the training loss of every step, then the validation loss of the last
    "plain": (
        PLAIN,
        [
            *(3.58493, 3.52153, 3.39085, 3.32131, 3.27552, 3.22863, 3.13333, 3.12934, 3.10195, 3.06096),
            *(2.95226, 2.94050, 2.91053, 2.93233, 2.94061, 2.89045, 2.90224, 2.89579, 2.89293, 2.89441),
        ],
        2.84870,
    ),
    "modern": (
        MODERN,
        [
            *(3.55535, 3.54698, 3.49562, 3.43551, 3.36267, 3.27633, 3.25542, 3.15556, 3.14022, 3.03399),
            *(2.95529, 2.89621, 2.89803, 2.79196, 2.77998, 2.63366, 2.66823, 2.67169, 2.53716, 2.53552),
        ],
        2.61348,
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_losses_are_those_on_record(name: str, place: Path) -> None:
    config, losses, validation = GOLDEN[name]
    settings = {"precision": "fp32", "device": "cpu", "sample": 0, "log_every": 1}
    final = train(replace(config, data=str(place / "text.txt"), out=place / name, **settings))
    measured = [line["train/loss"] for line in read_metrics(place / name) if "train/loss" in line]
    assert measured == pytest.approx(losses, abs=2e-4)
    assert final["val/loss"] == pytest.approx(validation, abs=2e-4)
