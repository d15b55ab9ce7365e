"""The three panels as doors to one trunk: each panel's own data, model, loss, evaluation and kind of run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from core.checks import check_choices, check_positive
from core.config import PositionConfig, TransformerConfig
from core.optim.config import OptimizerConfig, ScheduleConfig
from core.training.trained import save_data_record
from decision.config import TrainConfig as DecisionRun
from decision.models.config import DecisionConfig
from decision.models.decision_transformer import DecisionTransformer
from decision.tasks import loop as decision_loop
from decision.tasks.imitation import Imitation
from decision.trained import save_summary
from text.config import LanguageModellingConfig
from text.models.build import build_model
from text.models.gpt import GPTConfig
from text.tasks.language_modelling import LanguageModelling
from text.train import train as train_text
from vision.augmentation.config import AugmentConfig
from vision.config import TrainConfig as VisionRun
from vision.models.config import ViTConfig
from vision.tasks.classification import Classification
from vision.tasks.loop import train as train_vision

Weighing = Literal["equal", "relative"]
"""How the tasks' mean losses are added: as they are, or each divided by what it has lately been."""

MUON = OptimizerConfig("muon", lr=3e-3, betas=(0.9, 0.99), weight_decay=0.05)
PLATEAU = ScheduleConfig(kind="wsd", warmup=0.05, decay=0.5, final=0.0)
NEVER = 1_000_000
"""Steps between evaluations that only the end is to have."""


@dataclass(frozen=True)
class Settings:
    """What the generalist and the specialists have in common."""

    steps: int | None = None
    """Budget in updates, each of which has a micro-batch of every panel; give this or minutes."""
    minutes: float | None = None
    """Budget in minutes of `clock`."""
    clock: Literal["wall", "cpu"] = "wall"
    """What minutes count (`core.training.config.RunConfig`)."""
    seed: int = 0
    """Of initialisation, data order and dropout."""
    weighing: Weighing = "equal"
    """How losses are added."""
    dim: int = 256
    """Channels of the blocks."""
    depth: int = 4
    """Blocks."""
    text: str = "shakespeare"
    """Data of the text panel."""
    vision: str = "cifar10"
    """Data of the vision panel."""
    decision: str = "cartpole.npz"
    """Data of the decision panel."""
    episodes: int = 20
    """Episodes by which an agent is judged, for each target."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "dim", "depth", "episodes")


def run_settings(out: Path, settings: Settings, batch: int) -> dict[str, Any]:
    """What the runs of all panels are given."""
    budget = {"steps": settings.steps, "minutes": settings.minutes, "clock": settings.clock}
    rare = {"eval_every": NEVER, "save_every": NEVER, "log_every": 50}
    return {
        "out": out,
        "seed": settings.seed,
        "batch_size": batch,
        "optimizer": MUON,
        "schedule": PLATEAU,
        **budget,
        **rare,
    }


def trunk_core(dim: int, depth: int, position: PositionConfig) -> TransformerConfig:
    """The blocks that all three share, under the positions of one of them."""
    return TransformerConfig(
        dim=dim,
        depth=depth,
        n_heads=max(1, dim // 64),
        norm="rms",
        bias="none",
        feedforward="relu2",
        qk_norm="rms",
        init="zero-residual",
        position=position,
    )


@dataclass
class Door:
    """A panel's task, with a model of its own around blocks that may be shared."""

    config: Any
    """The configuration of a run of the panel, whole."""
    task: Any
    """`core.training.task.Task`."""
    build: Callable[[], nn.Module]
    """A new model."""
    save_data: Callable[[Path], None]
    """Keeps in a run folder what is needed to use the model."""
    train: Callable[[Any], dict[str, float]]
    """The panel's own training of a configuration."""
    figure: str
    """The metric that is compared."""
    better: Literal["less", "more"]
    """Which value of it is."""
    open: Callable[[], AbstractContextManager[Any]] = nullcontext
    """What must be open while the task is evaluated."""


def text_door(out: Path, settings: Settings) -> Door:
    """Characters of tiny Shakespeare."""
    model = GPTConfig(
        context=128, head="untied", core=trunk_core(settings.dim, settings.depth, PositionConfig("rotary"))
    )
    config = LanguageModellingConfig(
        **run_settings(out, settings, 16), data=settings.text, tokenizer="char", model=model
    )
    task = LanguageModelling.prepare(config)
    build = partial(build_model, task.config.model)
    return Door(task.config, task, build, task.save_data, train_text, "val/bits_per_char", "less")


def vision_door(out: Path, settings: Settings) -> Door:
    """Patches of CIFAR-10."""
    augment = AugmentConfig(crop="shift", shift=3, flip="alternating", smoothing=0.1)
    core = trunk_core(settings.dim, settings.depth, PositionConfig("rotary"))
    model = ViTConfig(image_size=32, patch=4, inputs="whitened", core=core)
    config = VisionRun(**run_settings(out, settings, 64), data=settings.vision, augment=augment, model=model)
    task = Classification.prepare(config)
    task.to(torch.device("cpu"))
    return Door(task.config, task, task.first_model, task.save_data, train_vision, "val/accuracy", "more")


def decision_door(out: Path, settings: Settings) -> Door:
    """Returns, states and actions of CartPole."""
    core = trunk_core(settings.dim, settings.depth, PositionConfig("none"))
    model = DecisionConfig(context=10, core=core)
    settled = run_settings(out, settings, 64)
    asked = DecisionRun(**settled, data=settings.decision, eval_episodes=settings.episodes, model=model)
    data, summary, config = decision_loop.prepare(asked)
    task = Imitation(data, summary, config, [], torch.device("cpu"))

    def save_data(folder: Path) -> None:
        save_summary(summary, folder)
        save_data_record(folder, config.data, data.fingerprint(), episodes=len(data), steps=data.steps)

    @contextmanager
    def acting() -> Iterator[None]:
        with decision_loop.evaluation_environments(config, summary) as task.environments:
            yield

    build = partial(DecisionTransformer, config.model)
    return Door(config, task, build, save_data, decision_loop.train, "val/return", "more", acting)


DOORS: dict[str, Callable[[Path, Settings], Door]] = {
    "text": text_door,
    "vision": vision_door,
    "decision": decision_door,
}
"""By panel, in the order in which an update passes through them."""
