"""Recipes of the decision panel and their losses on record: the mean of every six steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from core.config import PositionConfig
from core.optim.config import OptimizerConfig, ScheduleConfig
from decision.config import TrainConfig
from decision.models.config import DecisionConfig, paper_core
from decision.presets import modern_core
from decision.tasks.loop import train
from tests.decision.examples import CHOICE, PUSH, trajectories

PAPER = TrainConfig(
    steps=60,
    batch_size=8,
    optimizer=OptimizerConfig(lr=3e-3, betas=(0.9, 0.999), weight_decay=1e-4),
    schedule=ScheduleConfig(kind="constant", warmup=0.1),
    model=DecisionConfig(context=6, core=replace(paper_core(), dim=16, depth=2)),
)
"""The paper's model and AdamW."""

MODERN = TrainConfig(
    steps=60,
    batch_size=8,
    accumulate=2,
    ema=0.9,
    optimizer=OptimizerConfig("muon", lr=3e-3, muon_lr=0.01, muon_precision="fp32"),
    schedule=ScheduleConfig(kind="wsd", warmup=0.1, decay=0.5, final=0.0),
    model=DecisionConfig(
        context=6, timesteps="position", core=replace(modern_core(16, 2, 2), position=PositionConfig("rotary"))
    ),
)
"""Rotary timesteps, Muon, averaged weights. At muon_lr = 0.05 rounding (1e-7 of a weight) moves a loss by 2e-3."""

RECIPES: dict[str, tuple[TrainConfig, list[float], dict[str, float]]] = {
    "paper": (
        PAPER,
        [
            *(0.33411, 0.29994, 0.30321, 0.29622, 0.31719),
            *(0.29548, 0.30114, 0.29458, 0.30915, 0.28671),
        ],
        {},
    ),
    "gaussian": (
        replace(PAPER, model=replace(PAPER.model, head="gaussian")),
        [
            *(14.84687, 3.91682, 1.35158, 1.29794, 1.23336),
            *(1.22696, 1.19006, 1.19359, 1.17296, 1.16421),
        ],
        {},
    ),
    "modern": (
        MODERN,
        [
            *(0.69485, 0.68808, 0.69296, 0.69488, 0.69080),
            *(0.68994, 0.68868, 0.68301, 0.68909, 0.68265),
        ],
        {},
    ),
}


def run(name: str, folder: Path) -> tuple[TrainConfig, dict[str, float]]:
    """A recipe trained in a folder; its configuration and last evaluation, of which there is none."""
    trajectories(range(3, 40, 4), acted=CHOICE if name == "modern" else PUSH).save(folder / "data.npz")
    settings = {"precision": "fp32", "device": "cpu", "log_every": 6, "eval_episodes": 0, "out": folder / "run"}
    config = replace(RECIPES[name][0], data=str(folder / "data.npz"), **settings)
    return config, train(config)
