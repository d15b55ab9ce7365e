"""What every claim is made of: its sentences, its budget, measurements that are kept, and a training at that budget."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.claims.picture import Panel
from benchmarks.claims.verdict import Condition
from core.files.atomic import remove
from core.files.json_files import read_json, write_json
from core.optim.config import OptimizerConfig, ScheduleConfig
from core.optim.groups import build_optimizer
from core.training.config import RunConfig
from core.training.order import Share, stream
from core.training.run import Run
from core.vocabulary import IGNORED

ADAMW = OptimizerConfig(lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
FASTER = OptimizerConfig("muon", lr=1e-2, betas=(0.9, 0.99))  # than text.presets.MUON: for tasks made by rule
SCHEDULE = ScheduleConfig(kind="cosine", warmup=0.1, final=0.02)
NEVER = 10**9
Draw = Callable[[torch.Generator], tuple[Tensor, ...]]
"""A batch from a generator of random numbers."""


@dataclass(frozen=True)
class Finding:
    """What was measured: a table, panels of a picture, and conditions that the claim makes."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    panels: Sequence[Panel]
    conditions: Sequence[Condition]
    notes: Sequence[str] = ()
    """What a reader should know before believing it, and what was found besides."""
    missing: str = ""
    """The command that has to be run before there is anything to judge."""


@dataclass(frozen=True)
class Claim:
    """A sentence of the lecture, and the experiment that could refute it."""

    sentence: str
    hypothesis: str
    """What has to be measured for the claim to hold, said before."""
    equal: str
    """What the sides have in common."""
    measure: Callable[[Lab], Finding]
    minutes: float
    """Core-minutes of all trainings together."""
    least: float
    """Core-minutes below which there is no verdict."""
    seeds: int = 3
    predict: Callable[[Lab], dict[str, Any]] | None = None
    """Of a claim about a prediction: makes it, by name, without measuring what it is about."""
    needs: tuple[str, ...] = ()
    """Files under `core.files.downloads.data_root()`."""


@dataclass
class Lab:
    """The budget of one claim, and its measurements so far, which an interrupted run finds again."""

    minutes: float
    seeds: int
    kept: Path
    """A JSON file of measurements by name; those of another budget are measured anew."""
    quick: bool = False
    predicted: Mapping[str, Any] = field(default_factory=dict)
    """What was predicted with this budget and written to a file before."""
    foretold: str = "They were not written to a file before the run that tests them."
    """Where the predictions come from."""
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kept.exists() and (before := read_json(self.kept))["settings"] == self.settings:
            self.found = before["found"]

    @property
    def settings(self) -> dict[str, Any]:
        return {"minutes": self.minutes, "seeds": self.seeds}

    def seconds(self, trainings: int) -> float:
        """Core-seconds of each of so many trainings a seed."""
        return 60 * self.minutes / (trainings * self.seeds)

    def cell(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` gives, as JSON keeps it, measured once."""
        if name not in self.found:
            print(f"  {name}", flush=True)
            started = spent()
            value = json.loads(json.dumps(work(), allow_nan=False))
            self.found[name] = {"value": value, "core_seconds": spent() - started}
            write_json(self.kept, {"settings": self.settings, "found": self.found})
        return self.found[name]["value"]

    def each_seed(self, name: str, work: Callable[[int], Any]) -> list[Any]:
        """What `work` gives for every seed."""
        return [self.cell(f"{name}, seed {seed}", partial(work, seed)) for seed in range(self.seeds)]

    @property
    def core_seconds(self) -> float:
        """Of everything that was measured."""
        return sum(one["core_seconds"] for one in self.found.values())

    def forget(self) -> None:
        """The measurements are no longer needed."""
        remove(self.kept)


def spent() -> float:
    """Core-seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


class Objective(nn.Module):
    """A loss that is summed over what it counts, as the training loop asks for it."""

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *batch: Tensor) -> Tensor:
        return self.loss(self.model, *batch)


def fit(
    model: nn.Module,
    loss: Callable[..., Tensor],
    draw: Draw,
    seconds: float,
    seed: int,
    *,
    count: Callable[..., Any] = lambda *batch: len(batch[0]),
    optimizer: OptimizerConfig = ADAMW,
    schedule: ScheduleConfig = SCHEDULE,
    steps: int | None = None,
    precision: Literal["fp32", "auto"] = "fp32",
) -> int:
    """Trains a model by the project's loop for so many core-seconds, or steps; it is left in evaluation mode.

    loss:  (model, *batch) -> summed loss (), a mean over `count(*batch)`
    draw:  see `Draw`; every step has a generator of its own

    Returns how many steps it took.
    """

    def order(step: int, share: Share, spent: float) -> list[tuple[Tensor, ...]]:
        return [draw(generator(seed, "step", step))]

    with TemporaryDirectory() as parent:
        config = RunConfig(
            out=Path(parent) / "run",
            steps=steps,
            minutes=None if steps else seconds / 60,
            clock="cpu",
            seed=seed,
            precision=precision,
            device="cpu",
            eval_every=NEVER,
            save_every=NEVER,
            log_every=50,
            optimizer=optimizer,
            schedule=schedule,
        )
        with Run(config) as run:
            objective = run.prepare(Objective(model, loss), model, partial(build_optimizer, config=optimizer))
            for _, batch in run.steps(order):
                run.update(run.backward(objective, batch, count))
    model.eval()
    return run.step


def next_token(model: Any, ids: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the targets that count: 2 x int64 (B, T) -> ()."""
    loss: Tensor = model.head.loss(model.features(ids), targets)
    return loss


def hidden_tokens(model: Any, ids: Tensor, lengths: Tensor, places: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the hidden tokens: int64 (B, T), (B,), 2 x (N,), see `MaskedLM` -> ()."""
    loss: Tensor = model.head.loss(model.features_at(places, ids, lengths), targets)
    return loss


def targets_of(ids: Tensor, targets: Tensor, *others: Tensor) -> Tensor:
    """How many targets count: ()."""
    return (targets != IGNORED).sum()


def warm_up() -> None:
    """One step of a training, so that the first that counts does not pay for what is imported and set up once."""
    fit(nn.Linear(1, 1), lambda model, x: model(x).sum(), lambda g: (torch.ones(1, 1),), seconds=0, seed=0, steps=1)


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """Random numbers of their own for every seed, purpose and index."""
    return torch.Generator().manual_seed(int(stream(seed, purpose, index).random_raw() >> 1))


def seeded(seed: int, build: Callable[[], nn.Module]) -> Any:
    """A model with the initial weights of a seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return build()


def parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in model.parameters())


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean, and in brackets the lowest and highest seed."""
    middle = sum(values) / len(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def percent(values: Sequence[float]) -> str:
    """The same of shares."""
    return f"{100 * sum(values) / len(values):.1f} % ({100 * min(values):.0f} to {100 * max(values):.0f})"
