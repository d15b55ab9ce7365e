"""facebookresearch/DiT as a contestant: a clone of it, whose blocks are imported where they lie."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.config import TransformerConfig
from core.transformer import Transformer

NAMES = {
    "attention.branch.qkv": "attn.qkv",
    "attention.branch.out": "attn.proj",
    "feedforward.branch.up": "mlp.fc1",
    "feedforward.branch.out": "mlp.fc2",
}
"""What the maps of a block are called there."""


class TheirBlocks(nn.Module):
    """DiT's blocks one after the other, and a LayerNorm, as our core has: (B, T, D), (B, D) -> (B, T, D)."""

    def __init__(self, clone: Path, shape: TransformerConfig):
        super().__init__()
        module = imported(clone)
        ratio = shape.ffn_width / shape.dim
        self.blocks = nn.ModuleList(module.DiTBlock(shape.dim, shape.n_heads, ratio) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.dim, eps=shape.norm_eps)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, condition)
        y: Tensor = self.norm(x)
        return y


def imported(clone: Path) -> Any:
    """Its models.py. Raises ValueError where there is none."""
    file = clone / "models.py"
    if not file.is_file():
        raise ValueError(f"dit = {str(clone)!r} is no clone of facebookresearch/DiT: it has no models.py")
    spec = importlib.util.spec_from_file_location("dit_models", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
def take_weights(theirs: TheirBlocks, ours: Transformer) -> None:
    """Gives their blocks the weights of ours; the gains of our norms are 1, as theirs are without any."""
    for their, our in zip(theirs.blocks, ours.blocks, strict=True):
        for name, other in NAMES.items():
            for kind in ("weight", "bias"):
                their.get_parameter(f"{other}.{kind}").copy_(our.get_parameter(f"{name}.{kind}"))
        for kind in ("weight", "bias"):  # ours are two maps of 3 D, theirs one of 6 D
            halves = tuple(our.get_parameter(f"{half}.modulation.{kind}") for half in ("attention", "feedforward"))
            their.get_parameter(f"adaLN_modulation.1.{kind}").copy_(torch.cat(halves))
