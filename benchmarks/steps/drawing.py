"""A training step of modulated blocks, the same for every side of a comparison but for the blocks: same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from benchmarks.measure.timing import time_steps
from benchmarks.peers.dit import TheirBlocks, take_weights
from core.attention import StackedLinear
from core.config import PositionConfig, TransformerConfig
from core.devices import autocast, keep_freed_memory
from core.graph import full
from core.positions import index
from core.transformer import Transformer
from vision.presets import drawing_core

DIT = TransformerConfig(
    dim=128, depth=6, n_heads=4, modulation="adaln", feedforward="gelu-tanh", norm_eps=1e-6,
    position=PositionConfig("none"),
)  # fmt: skip
SHAPES = {"dit": DIT, "modern": replace(drawing_core(128, 6, 4), position=PositionConfig("none"))}
"""DiT's block, and that of the presets, in the size of flow-mnist; positions are the tokens' affair."""


class OurBlocks(nn.Module):
    """The core on its own: (B, T, D), (B, D) -> (B, T, D)."""

    def __init__(self, shape: TransformerConfig):
        super().__init__()
        self.core = Transformer(shape, extent=(1,))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.core(x, index(x.shape[1]), full(), condition=condition)


def blocks(side: str, config: TransformerConfig, clone: str, seed: int) -> nn.Module:
    """A contestant with random weights, the modulation's too, which start at zero otherwise; both have the same."""
    torch.manual_seed(seed)
    ours = OurBlocks(config)
    for part in ours.modules():
        if isinstance(part, StackedLinear) and "gate" in part.parts:
            nn.init.normal_(part.weight, std=0.02)
    if side == "ours":
        return ours
    theirs = TheirBlocks(Path(clone), config)
    take_weights(theirs, ours.core)
    return theirs


def train_step(
    seed: int, side: str, shape: str, clone: str, batch: int, tokens: int, precision: str, steps: int, tiny: bool
) -> dict[str, float]:
    """Mean squared error, backward, gradient norm at most 1, fused AdamW: images per core-second, the first loss."""
    keep_freed_memory()
    config = replace(SHAPES[shape], dim=32, depth=2, n_heads=2) if tiny else SHAPES[shape]
    model = blocks(side, config, clone, seed).train()
    learn = learner(model, (batch, tokens, config.dim), precision, seed)
    first = learn().item()
    timed = time_steps(learn, warmup=2, rounds=steps)
    return {"images_per_core_second": batch / timed["step_core_seconds"], **timed, "first_loss": first}


def learner(model: nn.Module, size: tuple[int, int, int], precision: str, seed: int) -> Callable[[], Tensor]:
    """The training step that both sides share, over (B, T, D); returns the loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(seed)
    x, wanted = torch.randn(2, *size, generator=generator)  # 2 x (B, T, D)
    condition = torch.randn(size[0], size[2], generator=generator)  # (B, D)

    def step() -> Tensor:
        with autocast(precision, x.device):
            loss = F.mse_loss(model(x, condition).float(), wanted)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step
