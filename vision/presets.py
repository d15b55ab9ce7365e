"""Named configurations that are known to work, each with what it was measured to reach."""

from __future__ import annotations

from typing import Literal

from core.config import PositionConfig, TransformerConfig
from core.training.config import OptimizerConfig, ScheduleConfig
from vision.augment import AugmentConfig
from vision.config import TrainConfig
from vision.models import ViTConfig

PLATEAU = ScheduleConfig(kind="wsd", warmup=0.05, decay=0.5, final=0.0)
COSINE = ScheduleConfig(kind="cosine", warmup=0.05, final=0.0)
MUON = OptimizerConfig("muon", lr=3e-3, betas=(0.9, 0.99), weight_decay=0.05)


def plain_core(dim: int, depth: int, heads: int, drop_path: float = 0.0) -> TransformerConfig:
    """The block of the ViT paper and of DeiT (timm's), learned positions."""
    return TransformerConfig(
        dim=dim,
        depth=depth,
        heads=heads,
        norm_eps=1e-6,
        position=PositionConfig("learned"),
        drop_path=drop_path,
    )


def modern_core(dim: int, depth: int, heads: int, drop_path: float = 0.0) -> TransformerConfig:
    """Axial rotary positions, QK-norm, squared ReLU, branches that start at zero: measured in docs/lab-notes.md."""
    return TransformerConfig(
        dim=dim,
        depth=depth,
        heads=heads,
        bias="none",
        feedforward="relu2",
        qk_norm="rms",
        init="zero-residual",
        position=PositionConfig("rotary", base=100.0),
        drop_path=drop_path,
    )


def deit(dim: int, depth: int, heads: int, pool: Literal["mean", "class"] = "class") -> ViTConfig:
    """DeiT's shape at 224 pixels in patches of 16, as the public weights have it."""
    return ViTConfig(
        image_size=224, patch=16, pool=pool, coordinates="raster", core=plain_core(dim, depth, heads, drop_path=0.1)
    )


FINE_TUNE = OptimizerConfig(lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05, layer_decay=0.75)
PHOTOGRAPHS = AugmentConfig(
    crop="resized",
    flip="random",
    operations=2,
    strength=9.0,
    erase="random",
    erase_probability=0.25,
    mixup=0.8,
    cutmix=1.0,
    smoothing=0.1,
)


def photographs(model: ViTConfig, steps: int, batch_size: int) -> TrainConfig:
    """DeiT's recipe for folders of photographs: AdamW, strong augmentation (Touvron 2021, table 9)."""
    return TrainConfig(
        steps=steps,
        batch_size=batch_size,
        eval_every=1000,
        save_every=1000,
        compile="default",
        augment=PHOTOGRAPHS,
        optimizer=FINE_TUNE,
        schedule=COSINE,
        model=model,
    )


PRESETS = {
    # The quick start, no data needed.
    "vit-digits": TrainConfig(
        steps=500,
        batch_size=128,
        eval_every=100,
        augment=AugmentConfig(crop="shift", shift=1, smoothing=0.1),
        optimizer=MUON,
        schedule=PLATEAU,
        model=ViTConfig(image_size=8, patch=2, core=modern_core(64, 3, 2)),
    ),
    "vit-cifar-cpu": TrainConfig(
        steps=4000,
        batch_size=128,
        data="cifar10",
        eval_every=500,
        augment=AugmentConfig(crop="shift", shift=2, flip="alternating", smoothing=0.1),
        optimizer=MUON,
        schedule=PLATEAU,
        model=ViTConfig(image_size=32, patch=4, core=modern_core(128, 6, 4)),
    ),
    "vit-tiny": photographs(deit(192, 12, 3), steps=20_000, batch_size=512),
    "vit-small": photographs(deit(384, 12, 6), steps=20_000, batch_size=512),
    "vit-base": photographs(deit(768, 12, 12), steps=20_000, batch_size=512),
}
