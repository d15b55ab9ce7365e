"""Named configurations that are known to work, each with what it was measured to reach."""

from __future__ import annotations

from core.config import PositionConfig, TransformerConfig
from core.training.config import OptimizerConfig, ScheduleConfig
from text.config import TrainConfig
from text.models import GPTConfig

PLAIN = ScheduleConfig(kind="cosine", warmup=0.05, final=0.1)
LINEAR = ScheduleConfig(kind="wsd", warmup=0.02, decay=0.5, final=0.0)


def gpt2_core(dim: int, depth: int, heads: int, dropout: float = 0.0) -> TransformerConfig:
    """GPT-2's block without biases, as nanoGPT trains it."""
    return TransformerConfig(
        dim=dim,
        depth=depth,
        heads=heads,
        bias="none",
        dropout=dropout,
        attention_dropout=dropout,
        position=PositionConfig("learned"),
    )


def modern_core(dim: int, depth: int, heads: int, dropout: float = 0.0) -> TransformerConfig:
    """Rotary positions, squared ReLU, residual branches that start at zero; each was measured to help."""
    return TransformerConfig(
        dim=dim, depth=depth, heads=heads, bias="none", feedforward="relu2", init="zero-residual", dropout=dropout
    )


PRESETS = {
    "char-cpu": TrainConfig(
        steps=1000,
        batch_size=12,
        optimizer=OptimizerConfig("muon", lr=3e-3),
        schedule=LINEAR,
        model=GPTConfig(context=64, head="untied", core=modern_core(128, 4, 4)),
    ),
    "nanogpt-cpu": TrainConfig(
        steps=2000,
        batch_size=12,
        sampling="random",
        precision="fp32",
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.99)),
        schedule=PLAIN,
        model=GPTConfig(context=64, core=gpt2_core(128, 4, 4)),
    ),
    "nanogpt-gpu": TrainConfig(
        steps=5000,
        batch_size=64,
        sampling="random",
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.99)),
        schedule=ScheduleConfig(kind="cosine", warmup=0.02, final=0.1),
        model=GPTConfig(context=256, core=gpt2_core(384, 6, 6, dropout=0.2)),
    ),
}
