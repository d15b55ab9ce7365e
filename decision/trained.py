"""A trained decision model, brought back from its run folder.

policy = load_policy("runs/cartpole")
policy.reset(target_return=500)
action = policy.act(observation)
...
action = policy.act(observation, reward)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.devices import device_kind, keep_freed_memory
from core.files.json_files import read_json, write_json
from core.files.serialize import from_dict, to_dict
from core.training.checkpoints import load_model, read_config
from decision.acting.policy import Policy
from decision.config import TrainConfig
from decision.data.load import Summary, default_targets
from decision.models.decision_transformer import DecisionTransformer

FILE = "trajectories.json"
"""What a run learns from, in its folder: environment, spaces, statistics, returns."""


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode with what it needs to act."""

    model: DecisionTransformer
    summary: Summary
    config: TrainConfig
    step: int
    device: torch.device


def load(folder: Path | str, which: str | int = "best", device: str = "cpu") -> Trained:
    """The model of a run folder: checkpoint "best", "last", "last-good" or a step; averaged weights if it has any.

    Raises ValueError naming the file that is missing, damaged or of another version.
    """
    folder = Path(folder)
    config, summary = read_run(folder), read_data_record(folder)
    model, step = load_model(folder, which, lambda: DecisionTransformer(config.model))
    return Trained(model.to(device), summary, config, step, torch.device(device))


def load_to_act(folder: Path, which: str, wish: str) -> Trained:
    """`load`, for a command that acts: on the device wished for, a CPU keeping the memory that it frees."""
    device = device_kind(wish)
    if device == "cpu":
        keep_freed_memory()
    return load(folder, which, device)


def load_policy(
    folder: Path | str, which: str | int = "best", device: str = "cpu", *, temperature: float = 0.0, seed: int = 0
) -> Policy:
    """The agent of a run folder, for use in a loop of one's own. Raises as `load` does."""
    trained = load(folder, which, device)
    return Policy(trained.model, trained.summary.normaliser, temperature=temperature, seed=seed)


def save_data_record(summary: Summary, folder: Path) -> None:
    """Keeps in a run folder what it learns from, and the returns that are worth asking for."""
    targets = default_targets(np.array(summary.returns))
    write_json(folder / FILE, {"targets": targets} | to_dict(summary))


def read_data_record(folder: Path) -> Summary:
    """What a run folder's model has learnt from. Raises ValueError naming the file or the key that is damaged."""
    require_run(folder)
    path = folder / FILE
    record: dict[str, Any] = read_json(path)
    record.pop("targets", None)
    try:
        return from_dict(Summary, record)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_run(folder: Path) -> TrainConfig:
    """The configuration of a run. Raises ValueError naming the file that is missing, damaged or of another version."""
    require_run(folder)
    return read_config(folder, TrainConfig)


def require_run(folder: Path) -> None:
    """Raise ValueError unless a run of `decision.train` is in a folder, or has begun to be."""
    if not (folder / FILE).is_file():
        raise ValueError(f"{folder} is not a run folder of decision.train: it has no {FILE}")
