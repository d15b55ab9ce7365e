"""The losses of two short runs with fixed seeds, as they were when these lines were written.

A change of these numbers is a change of the mathematics: of the model, its initial weights, the order of images, how
they are varied, the optimiser or the schedule. The tolerance is for processors that round sums in another order.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.config import PositionConfig, TransformerConfig
from core.optim.config import OptimizerConfig, ScheduleConfig
from core.training.metrics import read_metrics
from vision.augmentation.config import AugmentConfig
from vision.config import TrainConfig
from vision.models.config import ViTConfig
from vision.train import train

PLAIN = TrainConfig(
    steps=60,
    batch_size=32,
    optimizer=OptimizerConfig(lr=3e-3, betas=(0.9, 0.99)),
    model=ViTConfig(
        image_size=8,
        patch=2,
        pool="class",
        coordinates="raster",
        core=TransformerConfig(dim=32, depth=2, n_heads=2, position=PositionConfig("learned")),
    ),
)
"""The ViT paper's model and AdamW; images as they are."""

MODERN = TrainConfig(
    steps=60,
    batch_size=32,
    accumulate=2,
    ema=0.9,
    augment=AugmentConfig(
        crop="shift", shift=1, flip="alternating", operations=1, strength=5.0, erase="random", mixup=0.8, cutmix=1.0,
        smoothing=0.1, plain_end=0.3,
    ),
    optimizer=OptimizerConfig("muon", lr=3e-3, muon_lr=0.01, muon_precision="fp32"),
    schedule=ScheduleConfig(kind="wsd", warmup=0.1, decay=0.5, final=0.0),
    model=ViTConfig(
        image_size=8,
        patch=2,
        inputs="whitened",
        registers=1,
        core=TransformerConfig(
            dim=32, depth=2, n_heads=4, bias="none", qk_norm="rms", feedforward="relu2", init="zero-residual",
            layer_scale=0.5, drop_path=0.1,
        ),
    ),
)  # fmt: skip
"""Everything else: varied and mixed images, whitened patches, axial rotary positions, Muon, averaged weights.

At muon_lr = 0.05 rounding (1e-7 of a weight) moves a loss by 2e-4.
"""

GOLDEN: dict[str, tuple[TrainConfig, list[float], tuple[float, float]]] = {
    # the mean training loss of every six steps, then the validation loss and accuracy of the last
    "plain": (
        PLAIN,
        [
            *(2.31681, 2.32607, 2.30790, 2.30015, 2.26683),
            *(2.25451, 2.20579, 2.18724, 2.17661, 2.11991),
        ],
        (2.16076, 0.22917),
    ),
    "modern": (
        MODERN,
        [
            *(2.30285, 2.30184, 2.29746, 2.29519, 2.29246),
            *(2.28840, 2.28331, 2.27954, 2.26188, 2.24038),
        ],
        (2.27201, 0.15972),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_losses_are_those_on_record(name: str, tmp_path: Path) -> None:
    config, losses, validation = GOLDEN[name]
    settings = {"precision": "fp32", "device": "cpu", "log_every": 6, "out": tmp_path / name}
    final = train(replace(config, **settings))
    measured = [line["train/loss"] for line in read_metrics(tmp_path / name) if "train/loss" in line]
    assert measured == pytest.approx(losses, abs=2e-4)
    assert (final["val/loss"], final["val/accuracy"]) == pytest.approx(validation, abs=2e-4)
