"""The decision panel on a GPU: updates per second of a Decision Transformer of the paper's size, beside the peer's."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.measure.timing import Device
from benchmarks.peers.decision import PEER, installed
from benchmarks.steps.decision import train_step, train_step_in_run

IN_RUN = "ours in decision.train"


def sides() -> list[str]:
    """Who can be measured here."""
    return [IN_RUN, "ours", *[PEER] * installed()]


def measure_updates(seed: int, side: str, size: str, batch: int, device: Device, compiled: str) -> dict[str, float]:
    """A side's training step in Hopper's shapes, in bfloat16 where the device multiplies it, its data on the device.

    `IN_RUN` cuts new windows for each step and does all that a run does; the others take turns with eight batches.
    """
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # as a run does
    updates = train_step_in_run if side == IN_RUN else partial(train_step, side=side)
    shape, steps = ("tiny", 2) if size == "tiny" else ("paper", 100)
    found = updates(seed, size=shape, batch=batch, precision="auto", steps=steps, device=device, compiled=compiled)
    return {"windows_per_second": batch * found["updates_per_second"], **found}
