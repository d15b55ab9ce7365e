"""A trained model, brought back from its run folder; and the record of what it was trained on."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import nn

from core.adapters.lora import base_fingerprint, check_base, load_checkpoint_state, merge
from core.checks import check_choices
from core.files.json_files import read_json, write_json
from core.files.tensors import Uninitialised
from core.training.checkpoints import STATE, Checkpoints, Kinds, mean_weights, read_config, verify
from core.training.config import RunConfig

M = TypeVar("M", bound=nn.Module)
C = TypeVar("C", bound=RunConfig)
Weights = Literal["averaged", "raw"]

DATA = "data.json"
"""The file of a run folder that records what the run was trained on."""


@dataclass(frozen=True)
class TrainedRun(Generic[M, C]):
    """A model in evaluation mode, the configuration of its run, and the step of its checkpoint, or of the last."""

    model: M
    config: C
    step: int
    device: torch.device


def load_run(
    folder: Path | str,
    kinds: Kinds[C],
    build: Callable[[C], M],
    which: str | int = "best",
    device: str = "cpu",
    weights: Weights = "averaged",
    adapters: Literal["merged", "apart"] = "merged",
) -> TrainedRun[M, C]:
    """The model of a run folder: checkpoint "best", "last", "last-good", a step, or "last-K", the mean of the last K.

    build:    makes a model; for a run with adapters, that which it started from, with adapters
    weights:  averaged ones, where the run kept any (`--ema`), or those that were trained.
    adapters: added to the weights beside which they were trained, or as they are

    Raises ValueError naming the file that is missing, damaged or of another version, and for fewer than K checkpoints.
    """
    folder = Path(folder)
    config = read_config(folder, kinds)
    checkpoints = Checkpoints(folder).find_all(which)
    if len(checkpoints) > config.keep:  # the best may be there as well, from long before
        raise ValueError(f"checkpoint = {which!r}: {folder} keeps the last {config.keep}; train with a larger --keep")
    with Uninitialised(), _naming_the_base(folder, config):
        model = build(config)
    load_checkpoint_state(model, mean_weights(checkpoints, weights), checkpoints[-1])
    if base := base_fingerprint(model):
        check_base(base, checkpoint_base(folder, which), config.init_from)
    if adapters == "merged":
        merge(model)
    step = int(checkpoints[-1].name.removeprefix("step-"))
    return TrainedRun(model.eval().to(device), config, step, torch.device(device))


@contextmanager
def _naming_the_base(folder: Path, config: RunConfig) -> Iterator[None]:
    """Inside, what is wrong is wrong with the weights that a run with adapters started from, if it has any."""
    try:
        yield
    except ValueError as error:
        if config.adapter.kind == "none":
            raise
        raise ValueError(f"{folder} holds an adapter, and the weights beside it cannot be loaded: {error}") from error


def checkpoint_base(run_folder: Path, which: str | int = "best") -> str | None:
    """The fingerprint of the weights beside which a checkpoint's adapters were trained; None where it has none."""
    checkpoint = Checkpoints(run_folder).find_all(which)[-1]
    verify(checkpoint, only=STATE)
    base: str | None = read_json(checkpoint / STATE).get("base")
    return base


def save_data_record(folder: Path, data: str, fingerprint: str, **sizes: Any) -> None:
    """Records in a run folder what it is trained on."""
    write_json(folder / DATA, {"data": data, "fingerprint": fingerprint} | sizes)


def matches_data(folder: Path, fingerprint: str, key: str = "fingerprint") -> bool:
    """Whether data of this fingerprint is what a run was trained on; true where there is no record."""
    record = folder / DATA
    return not record.exists() or read_json(record).get(key, fingerprint) == fingerprint


@dataclass(frozen=True)
class EvaluateOptions:
    """The settings that every `evaluate` command shares."""

    checkpoint: str = "best"
    """best, last, last-good, a step, or last-5, the mean of the weights of the last five."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to evaluate."""
    json: bool = False
    """End with one line that is a JSON object."""

    def __post_init__(self) -> None:
        check_choices(self)


def print_json(figures: Mapping[str, Any]) -> None:
    """One line: a JSON object of flat keys, `part/metric`; a number that is not finite is null."""
    print(json.dumps(flat(figures), allow_nan=False), flush=True)


def flat(figures: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by `/`; numbers that are not finite as None."""
    joined: dict[str, Any] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            joined |= flat(value, f"{prefix}{key}/")
        else:
            joined[f"{prefix}{key}"] = None if isinstance(value, float) and not math.isfinite(value) else value
    return joined
