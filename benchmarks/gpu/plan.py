"""What the GPU benchmark measures: every job of every part, the most telling first."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu.decision import sides

HERE = "benchmarks.gpu"
PARTS = ("step", "loss", "sampling", "attention", "vision", "decision", "cifar")
SMALLEST = 15.0  # seconds that a measurement needs to be worth starting


@dataclass(frozen=True)
class Job:
    """One measurement: a function "package.module:name", its arguments, and the seconds it needs."""

    part: str
    name: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    needs: float = SMALLEST


def plan(options: argparse.Namespace) -> list[Job]:
    """Every measurement of the parts asked for, the most telling first."""
    largest = max(options.micro_batches)
    smaller = [size for size in options.micro_batches if size != largest]
    jobs = [
        step_job("gpt2-124m", largest, options),
        loss_job(options),
        step_job("nanogpt-gpu", 2 if options.tiny else 64, options),
        *sampling_jobs(options),
        *(step_job("gpt2-124m", size, options) for size in smaller),
        attention_job(options),
        *vision_jobs(options),
        *decision_jobs(options),
        *cifar_jobs(options),
    ]
    return [job for job in jobs if job.part in options.parts]


def step_job(preset: str, batch: int, options: argparse.Namespace) -> Job:
    work = {"preset": preset, "size": _size(options), "batch": batch, "compiled": options.compile}
    return Job("step", f"{preset}, batch {batch}", f"{HERE}.text:measure_step", {**work, "device": options.device})


def sampling_jobs(options: argparse.Namespace) -> list[Job]:
    """The preset of 10.65 M within its context and past it, and GPT-2's, in both dtypes."""
    chosen = [("nanogpt-gpu", 250), ("nanogpt-gpu", 1000), ("gpt2-124m", 1000)]
    return [
        Job(
            "sampling",
            f"{preset}, {tokens} tokens, {dtype}",
            f"{HERE}.text:measure_sampling",
            {"preset": preset, "size": _size(options), "tokens": tokens, "dtype": dtype, "device": options.device},
        )
        for preset, tokens in ([("nanogpt-gpu", 40)] if options.tiny else chosen)
        for dtype in ("float32", "bfloat16")
    ]


def loss_job(options: argparse.Namespace) -> Job:
    work = {"preset": options.preset, "data": options.data, "target": options.target, "device": options.device}
    work["options"] = shlex.split(options.train_options)
    return Job("loss", options.preset, f"{HERE}.quality:measure_loss", work)


def attention_job(options: argparse.Namespace) -> Job:
    work = {"lengths": options.lengths, "device": options.device}
    return Job("attention", "seconds", f"{HERE}.attention:measure_attention", work)


def vision_jobs(options: argparse.Namespace) -> list[Job]:
    work = {"size": _size(options), "device": options.device, "compiled": options.compile}
    return [
        Job("vision", preset, f"{HERE}.vision:measure_step", {"preset": preset, **work})
        for preset in options.vision_presets
    ]


def decision_jobs(options: argparse.Namespace) -> list[Job]:
    """Every side at every batch size, eager before compiled."""
    work = {"size": _size(options), "device": options.device}
    return [
        Job(
            "decision",
            f"{side}, batch {batch}, compile {mode}",
            f"{HERE}.decision:measure_updates",
            {"side": side, "batch": batch, "compiled": mode, **work},
        )
        for mode in dict.fromkeys(("off", options.compile))
        for batch in options.decision_batches
        for side in sides()
    ]


def cifar_jobs(options: argparse.Namespace) -> list[Job]:
    """A whole training run for each seed; it limits its own time, and evaluation comes after."""
    work = {"preset": options.cifar_preset, "data": options.cifar_data, "minutes": options.cifar_minutes}
    work |= {"part": "test", "device": options.device, "options": shlex.split(options.cifar_options)}
    return [
        Job(
            "cifar",
            f"{options.cifar_preset}, seed {seed}",
            "benchmarks.vision_cifar_cpu:train",
            work,
            seed=seed,
            needs=60 * (options.cifar_minutes + 1),
        )
        for seed in options.cifar_seeds
    ]


def _size(options: argparse.Namespace) -> str:
    return "tiny" if options.tiny else "full"
