"""Recipes of the vision panel and their losses on record: the mean of every six steps, then the last evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from core.config import PositionConfig, TransformerConfig
from core.optim.config import OptimizerConfig, ScheduleConfig
from vision.augmentation.config import AugmentConfig
from vision.config import TrainConfig, VisionConfig
from vision.models.config import ViTConfig
from vision.models.dit import DiTConfig
from vision.tasks.drawing.flow_config import FlowConfig
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

FLOW = FlowConfig(
    steps=60,
    batch_size=32,
    accumulate=2,
    ema=0.9,
    flip="random",
    sample=0,
    optimizer=OptimizerConfig("muon", lr=3e-3, muon_lr=0.01, muon_precision="fp32"),
    schedule=ScheduleConfig(kind="wsd", warmup=0.1, decay=0.5, final=0.0),
    model=DiTConfig(
        image_size=8,
        patch=4,
        core=TransformerConfig(
            dim=32, depth=2, n_heads=2, bias="none", feedforward="relu2", init="zero-residual", modulation="adaln",
            position=PositionConfig("learned"),
        ),
    ),
)  # fmt: skip
"""Images drawn: noise, times and dropped classes, modulated blocks."""

RECIPES: dict[str, tuple[VisionConfig, list[float], dict[str, float]]] = {
    "plain": (
        PLAIN,
        [
            *(2.31681, 2.32607, 2.30790, 2.30015, 2.26683),
            *(2.25451, 2.20579, 2.18724, 2.17661, 2.11991),
        ],
        {"val/loss": 2.16076, "val/accuracy": 0.22917},
    ),
    "modern": (
        MODERN,
        [
            *(2.30278, 2.30067, 2.30080, 2.29694, 2.29320),
            *(2.29025, 2.28040, 2.27596, 2.26041, 2.24986),
        ],
        {"val/loss": 2.26052, "val/accuracy": 0.17361},
    ),
    "flow": (
        FLOW,
        [
            *(1.96695, 1.75448, 1.66961, 1.57486, 1.49518),
            *(1.46210, 1.41942, 1.41353, 1.41407, 1.37057),
        ],
        {"val/loss": 1.39814},
    ),
}


def run(name: str, folder: Path) -> tuple[VisionConfig, dict[str, float]]:
    """A recipe trained in a folder; its configuration and last evaluation."""
    settings = {"precision": "fp32", "device": "cpu", "log_every": 6, "out": folder / "run"}
    config = replace(RECIPES[name][0], **settings)
    return config, train(config)
