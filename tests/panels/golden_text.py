"""Recipes of the text panel and their losses on record: of every step, then of the last evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from core.config import PositionConfig, TransformerConfig
from core.optim.config import OptimizerConfig, ScheduleConfig
from tests.text.processes import prose
from text.config import LanguageModellingConfig
from text.models.gpt import GPTConfig
from text.train import train

PLAIN = LanguageModellingConfig(
    steps=20,
    batch_size=4,
    window_order="random",
    optimizer=OptimizerConfig(lr=3e-3, betas=(0.9, 0.99)),
    model=GPTConfig(
        context=24, core=TransformerConfig(dim=32, depth=2, n_heads=2, bias="none", position=PositionConfig("learned"))
    ),
)
"""GPT-2's block and AdamW, as nanoGPT trains it."""

MODERN = LanguageModellingConfig(
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

RECIPES: dict[str, tuple[LanguageModellingConfig, list[float], dict[str, float]]] = {
    "plain": (
        PLAIN,
        [
            *(3.58493, 3.52153, 3.39085, 3.32131, 3.27552, 3.22863, 3.13333, 3.12934, 3.10195, 3.06096),
            *(2.95226, 2.94050, 2.91053, 2.93233, 2.94061, 2.89045, 2.90224, 2.89579, 2.89293, 2.89441),
        ],
        {"val/loss": 2.84870},
    ),
    "modern": (
        MODERN,
        [
            *(3.55535, 3.54698, 3.49562, 3.43551, 3.36267, 3.27633, 3.25542, 3.15556, 3.14022, 3.03399),
            *(2.95529, 2.89621, 2.89803, 2.79196, 2.77998, 2.63366, 2.66823, 2.67169, 2.53716, 2.53552),
        ],
        {"val/loss": 2.61348},
    ),
}


def run(name: str, folder: Path) -> tuple[LanguageModellingConfig, dict[str, float]]:
    """A recipe trained in a folder; its configuration and last evaluation."""
    (folder / "text.txt").write_text(prose(), encoding="utf-8")
    settings = {"precision": "fp32", "device": "cpu", "sample": 0, "log_every": 1, "out": folder / "run"}
    config = replace(RECIPES[name][0], data=str(folder / "text.txt"), **settings)
    return config, train(config)
