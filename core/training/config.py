"""What every training run has in common: its budget, batch, optimiser, schedule and housekeeping."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from core.adapters.config import AdapterConfig
from core.checks import check_at_least, check_between, check_choices, check_positive
from core.cli.arguments import ALONE
from core.messages import notice
from core.optim.config import OptimizerConfig, ScheduleConfig
from core.scale.remat import Remat

DEFAULT_OUT = Path("runs")
BUDGETS = ("steps", "epochs", "minutes")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The settings that every `train` command shares; a panel's own configuration inherits them."""

    task: ClassVar[str] = ""
    """What is learned, where a panel has several tasks: each has a configuration of its own."""
    resumable: ClassVar[tuple[str, ...]] = (
        *("out", "resume", "checkpoint", "steps", "minutes", "epochs", "accumulate", "log_every", "save_every"),
        *("eval_every", "keep", "tracker", "device", "compile", "remat", "distribute", "shard_size"),
        *("profile", "peak_tflops"),
    )
    """Settings that may change when a run is resumed; any other would make it a different run."""

    out: Path = DEFAULT_OUT
    """Run folder; from the command line, runs/PRESET when not given."""
    steps: int | None = None
    """Budget in optimiser steps; give this, epochs or minutes."""
    epochs: float | None = None
    """Budget in passes over the training data, from which the number of steps follows."""
    minutes: float | None = None
    """Budget in minutes of wall time, or of what `clock` counts; evaluation included."""
    clock: Literal["wall", "cpu"] = "wall"
    """What minutes and the seconds of metrics count: wall time, or the time that a process has its cores, all of them
    together. For comparisons where other programs run."""
    batch_size: int = 32
    """Sequences (or images) per optimiser step, over all processes and micro-batches."""
    accumulate: int = 1
    """Micro-batches per optimiser step on each process."""
    seed: int = 0
    """Seed of initialisation, data order and dropout."""
    eval_every: int = 250
    """Steps between evaluations; the last step is always evaluated."""
    save_every: int = 250
    """Steps between checkpoints; the last step is always saved."""
    log_every: int = 10
    """Steps between lines of training metrics."""
    keep: int = 2
    """Newest checkpoints kept, beside the best."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the model; auto is bf16 where the hardware multiplies it, fp32 elsewhere."""
    compile: Literal["off", "default", "max-autotune"] = field(default="off", metadata={ALONE: "default"})
    """torch.compile mode of the training step, `default` if none is named; off where there is no working compiler."""
    remat: Remat = "none"
    """What is computed again for the gradients rather than kept: nothing, all of each block, or what is cheap in it."""
    distribute: Literal["auto", "ddp", "fsdp"] = "auto"
    """Whether each of several processes holds all weights (ddp) or a shard (fsdp); auto is as they were launched."""
    shard_size: int | None = None
    """fsdp: processes that hold one copy of the weights together, those of one machine for example; default all."""
    plan: str = field(default="off", metadata={ALONE: "here"})
    """Print what the run needs, without running it: here, or on a device such as H100, or on several, 8xH100."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; auto is the fastest device there is."""
    profile: int | None = None
    """Steps to record with PyTorch's profiler, after the first; the trace is profile.json in the run folder."""
    peak_tflops: float | None = None
    """What the device could do at most, for train/mfu; by default that of a known GPU, dense bfloat16."""
    resume: bool = False
    """Continue the run in the run folder."""
    checkpoint: Literal["last", "last-good"] = "last"
    """With resume: continue from the last checkpoint, or from the last that is undamaged."""
    tracker: Literal["none", "tensorboard"] = "none"
    """Where metrics go beside metrics.jsonl."""
    ema: float = 0.0
    """Decay per step of an exponential moving average of the weights, which is then evaluated; 0 is off."""
    clip: float = 1.0
    """Norm that gradients are clipped to; 0 is off."""
    init_from: str = ""
    """Start from trained weights."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """What is learned beside the weights of init_from."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimiser."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Learning-rate schedule."""

    def __post_init__(self) -> None:
        check_choices(self)
        budgets = {name: getattr(self, name) for name in BUDGETS}
        if sum(budget is not None for budget in budgets.values()) != 1:
            shown = ", ".join(f"{name} = {budget}" for name, budget in budgets.items())
            raise ValueError(f"{shown}: exactly one must be given")
        check_positive(self, *BUDGETS, "batch_size", "accumulate")
        check_positive(self, "eval_every", "save_every", "log_every", "keep", "shard_size")
        check_positive(self, "profile", "peak_tflops")
        check_at_least(self, 0, "seed", "clip")
        check_between(self, 0.0, 1.0, "ema")
        if self.adapter.kind != "none" and not self.init_from:
            raise ValueError(f"adapter = {self.adapter.kind!r} needs init_from: the weights that it stands beside")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate = {self.accumulate} must divide batch_size = {self.batch_size}")

    def check_processes(self, count: int) -> None:
        """Raise ValueError unless so many processes can share a batch, and the weights."""
        if self.batch_size % (count * self.accumulate):
            raise ValueError(
                f"batch_size = {self.batch_size} must be divisible by {count} processes x "
                f"accumulate = {self.accumulate}"
            )
        if count % (self.shard_size or 1):
            raise ValueError(f"shard_size = {self.shard_size} must divide the {count} processes")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        idle = {} if self.resume else {"checkpoint": "without resume nothing is read"}
        return idle | ({"shard_size": "distribute = 'ddp' cuts no weights"} if self.distribute == "ddp" else {})

    def adapted(self, given: Mapping[str, Any]) -> Self:
        """What a command line that sets these fields, by dotted names, stands for: a panel fills in what follows."""
        return self


C = TypeVar("C", bound=RunConfig)


def with_steps(config: C, items: int) -> C:
    """The configuration with its budget of epochs, if that is what it has, as a number of steps.

    items: how many of what the batch size counts make an epoch; the last step may reach into the next one
    """
    if config.epochs is None:
        return config
    steps = max(1, math.ceil(config.epochs * items / config.batch_size))
    notice(f"epochs = {config.epochs:g} are {steps:,} steps, {items / config.batch_size:,.1f} each")
    return replace(config, steps=steps, epochs=None)
