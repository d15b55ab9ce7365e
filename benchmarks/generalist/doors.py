"""The three panels as doors to one trunk: each panel's own data, model, loss, evaluation and kind of run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from core.checks import check_choices, check_positive
from core.config import PositionConfig, TransformerConfig
from core.training.trained import save_data_record
from decision.config import TrainConfig as DecisionRun
from decision.models.config import DecisionConfig
from decision.models.decision_transformer import DecisionTransformer
from decision.presets import MUON, PLATEAU, modern_core
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
    return replace(modern_core(dim, depth, max(1, dim // 64)), norm="rms", position=position)


@dataclass
class Door:
    """A panel's task, with a model of its own around blocks that may be shared."""

    config: Any
    """The configuration of a run of the panel, with what the data decides filled in."""
    task: Any
    """`core.training.task.Task`."""
    build: Callable[[], nn.Module]
    """A new model."""
    save_data: Callable[[Path], None]
    """Keeps in a run folder what is needed to use the model."""
    evaluating: Callable[[], AbstractContextManager[Any]] = nullcontext
    """What must be open while the task is evaluated."""


def text_config(out: Path, settings: Settings) -> LanguageModellingConfig:
    """Characters of tiny Shakespeare."""
    core = trunk_core(settings.dim, settings.depth, PositionConfig("rotary"))
    model, settled = GPTConfig(context=128, head="untied", core=core), run_settings(out, settings, 16)
    return LanguageModellingConfig(**settled, data=settings.text, tokenizer="char", model=model)


def text_door(config: LanguageModellingConfig) -> Door:
    task = LanguageModelling.prepare(config)
    return Door(task.config, task, partial(build_model, task.config.model), task.save_data)


def vision_config(out: Path, settings: Settings) -> VisionRun:
    """Patches of CIFAR-10."""
    augment = AugmentConfig(crop="shift", shift=3, flip="alternating", smoothing=0.1)
    core = trunk_core(settings.dim, settings.depth, PositionConfig("rotary"))
    model = ViTConfig(image_size=32, patch=4, inputs="whitened", core=core)
    return VisionRun(**run_settings(out, settings, 64), data=settings.vision, augment=augment, model=model)


def vision_door(config: VisionRun) -> Door:
    task = Classification.prepare(config)
    task.to(torch.device("cpu"))
    return Door(task.config, task, task.first_model, task.save_data)


def decision_config(out: Path, settings: Settings) -> DecisionRun:
    """Returns, states and actions of CartPole."""
    core = trunk_core(settings.dim, settings.depth, PositionConfig("none"))
    model, settled = DecisionConfig(context=10, core=core), run_settings(out, settings, 64)
    return DecisionRun(**settled, data=settings.decision, eval_episodes=settings.episodes, model=model)


def decision_door(asked: DecisionRun) -> Door:
    data, summary, config = decision_loop.prepare(asked)
    task = Imitation(data, summary, config, [], torch.device("cpu"))

    def save_data(folder: Path) -> None:
        save_summary(summary, folder)
        save_data_record(folder, config.data, data.fingerprint(), episodes=len(data), steps=data.steps)

    @contextmanager
    def acting() -> Iterator[None]:
        with decision_loop.evaluation_environments(config, summary) as task.environments:
            yield

    return Door(config, task, partial(DecisionTransformer, config.model), save_data, acting)


@dataclass(frozen=True)
class Panel:
    """What a panel does by itself, and how it becomes a door."""

    configure: Callable[[Path, Settings], Any]
    """The configuration of a run in a folder; reads nothing."""
    open: Callable[[Any], Door]
    """The door of a configuration; reads the data."""
    train: Callable[[Any], dict[str, float]]
    """The panel's own training."""
    figure: str
    """The metric that is compared."""


PANELS: dict[str, Panel] = {
    "text": Panel(text_config, text_door, train_text, "val/bits_per_char"),
    "vision": Panel(vision_config, vision_door, train_vision, "val/accuracy"),
    "decision": Panel(decision_config, decision_door, decision_loop.train, "val/return"),
}
"""In the order in which an update passes through them."""


def open_doors(out: Path, settings: Settings) -> dict[str, Door]:
    """The doors of all panels, whose run folders lie side by side. Raises ValueError for missing data."""
    return {name: panel.open(panel.configure(out / name, settings)) for name, panel in PANELS.items()}
