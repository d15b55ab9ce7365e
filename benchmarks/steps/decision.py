"""A training step of a Decision Transformer in Hopper's shapes, the same for both sides but for the model."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from benchmarks.measure.timing import Device, is_compiled, time_steps
from benchmarks.peers.decision import PEER, SIZES, PeerLoss, Size, build, peer_model
from core.devices import autocast, compile_in_place
from core.memory import peak_memory
from core.optim.config import OptimizerConfig
from core.optim.groups import build_optimizer
from core.training.run import Run
from decision.config import TrainConfig
from decision.data.store import Episode, Trajectories, stack
from decision.data.summary import Normaliser
from decision.data.windows import WindowOrder
from decision.environments.spaces import Space
from decision.models.decision_transformer import DecisionTransformer
from decision.tasks.imitation import DecisionLoss, count_steps

MANY = 1_000_000  # steps: never reached
OBSERVED = Space("box", (11,), "float64", (None,), (None,))
ACTED = Space("box", (3,), "float32", (-1.0,), (1.0,))
EPISODES = 40  # of 10 to 1,000 steps: some windows are padded


def random_windows(size: Size, batch: int, seed: int, device: Device = "cpu") -> WindowOrder:
    """Windows of random numbers in Hopper's shapes, one or more episodes being shorter than a window."""
    draw = np.random.default_rng(seed)
    episodes = []
    for steps in np.linspace(10, size.longest, EPISODES, dtype=int).tolist():
        actions = draw.uniform(-1, 1, (steps, *ACTED.shape))
        observations = draw.normal(size=(steps, *OBSERVED.shape))
        episodes.append(Episode(observations, actions, draw.uniform(0, 4, steps), True, False, None))
    data: Trajectories = stack(episodes, environment="Hopper-v5", observation_space=OBSERVED, action_space=ACTED)
    return WindowOrder(data, Normaliser.of(data), size.context, batch, seed, device)


class MeanLoss(nn.Module):
    """Our objective, which is a sum, as a mean over real steps: a `Window`, its tensors one by one -> ()."""

    def __init__(self, model: DecisionTransformer):
        super().__init__()
        self.sum = DecisionLoss(model)

    def forward(self, *window: Tensor) -> Tensor:
        return self.sum(*window) / count_steps(*window)


def objective(side: str, size: Size, seed: int) -> nn.Module:
    """A contestant's model, whose weights are those of the other, and loss."""
    model = build(size, OBSERVED, ACTED, seed)
    return PeerLoss(peer_model(size, model)) if side == PEER else MeanLoss(model)


def train_step(
    seed: int,
    side: str,
    size: str,
    batch: int,
    precision: str,
    steps: int,
    device: Device = "cpu",
    compiled: str = "off",
) -> dict[str, float]:
    """Loss, backward, gradient norm at most 0.25, fused AdamW: the paper's step, side by side the same."""
    place = torch.device(device)
    loss_of = objective(side, SIZES[size], seed).train().to(place)
    compile_in_place(loss_of, compiled, place, lambda notice: print(notice, file=sys.stderr))
    optimizer = torch.optim.AdamW(loss_of.parameters(), lr=1e-4, weight_decay=1e-4, fused=True)
    windows = random_windows(SIZES[size], batch, seed, device)
    batches = cycle([window for step in range(8) for window in windows.batch(step)])

    def step() -> Tensor:
        with autocast(precision, place):
            loss = loss_of(*next(batches))
        loss.backward()
        clip_grad_norm_(loss_of.parameters(), 0.25)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return measure(loss_of, step, steps, device)


def train_step_in_run(
    seed: int, size: str, batch: int, precision: str, steps: int, device: Device = "cpu", compiled: str = "off"
) -> dict[str, float]:
    """The same step with all that `decision.train` does around it: windows, order, guard, log, schedule."""
    windows = random_windows(SIZES[size], batch, seed, device)
    model = build(SIZES[size], OBSERVED, ACTED, seed)
    with (
        TemporaryDirectory() as folder,
        Run(run_config(Path(folder), seed, batch, precision, device, compiled), "timesteps") as run,
    ):
        loss_of = run.prepare(DecisionLoss(model), model, partial(build_optimizer, config=run.config.optimizer))
        order = run.steps(lambda step, share, progress: [*windows.batch(step, *share)])

        def step() -> Tensor:
            _, micro_batches = next(order)
            gradients = run.backward(loss_of, micro_batches, count=count_steps)
            run.update(gradients)
            return gradients.loss

        return measure(loss_of, step, steps, device)


def run_config(folder: Path, seed: int, batch: int, precision: str, device: Device, compiled: str) -> TrainConfig:
    """A run that is measured and never comes to its end."""
    return TrainConfig(
        out=folder,
        seed=seed,
        steps=MANY,
        eval_every=MANY,
        save_every=MANY,
        batch_size=batch,
        clip=0.25,
        device=device,
        precision=cast(Any, precision),
        compile=cast(Any, compiled),
        optimizer=OptimizerConfig(lr=1e-4, weight_decay=1e-4),
    )


def measure(loss_of: nn.Module, step: Callable[[], Tensor], steps: int, device: Device) -> dict[str, float]:
    """Updates per (core-)second, `growth_bytes` of memory over what was held before, the loss of the first step."""
    before, started = held(device), time.perf_counter()
    first = {"first_loss": step().item(), "first_step_seconds": time.perf_counter() - started}
    timed = time_steps(step, warmup=2, rounds=steps, device=device)
    peak = timed["device_peak_bytes" if device == "cuda" else "peak_bytes"]
    return {
        "updates_per_core_second": 1 / timed["step_core_seconds"],
        "updates_per_second": 1 / timed["step_seconds"],
        "growth_bytes": peak - before,
        **timed,
        **first,
        "compiled": is_compiled(loss_of),
    }


def held(device: Device) -> int:
    """Bytes in use: of a GPU's memory now, or of this process's at most so far."""
    return torch.cuda.memory_allocated() if device == "cuda" else peak_memory()
