"""Which parameter is updated how: decay, no decay, Muon. Every parameter in exactly one group."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from core.optim.config import OptimizerConfig
from core.optim.muon import MuonAdamW

PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """An optimiser over all trainable parameters of `model`; moving the model in place later is fine.

    Parameters of two or more axes decay, the others do not, nor do those whose names the model lists in
    `no_weight_decay()`. With `kind="muon"`, `hidden_matrices(model)` go to Muon. Each group keeps the peak
    learning rate as `initial_lr`. A tied parameter is updated once.
    """
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters() if p.requires_grad}
    if not names:
        raise ValueError(f"{type(model).__name__} has no trainable parameter")
    matrices = [p for p in hidden_matrices(model) if p in names] if config.kind == "muon" else []
    groups = _adamw_groups(model, names, set(matrices), config)
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    if not matrices:
        raise ValueError(f"optimizer.kind = 'muon' finds no hidden matrix in {type(model).__name__}; take 'adamw'")
    groups.append(_group(matrices, config.muon_lr, config.muon_weight_decay, kind="muon"))
    groups[-1].update(momentum=config.muon_momentum, scale=config.muon_scale)
    return MuonAdamW(groups, stacked_parts(model), PRECISIONS[config.muon_precision])


def hidden_matrices(model: nn.Module) -> list[Tensor]:
    """What Muon is for: `model.hidden_matrices()` where there is one, else the weight of every `nn.Linear`
    inside a module list named `blocks`. Embeddings and heads are for AdamW (Jordan 2024).
    """
    declared = getattr(model, "hidden_matrices", None)
    if declared is not None:
        return list(declared())
    found: dict[Tensor, None] = {}  # an ordered set
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and "blocks" in name.split(".")[:-1]:
            found[module.weight] = None
    return list(found)


def stacked_parts(model: nn.Module) -> dict[Tensor, tuple[int, ...]]:
    """Weights that stack several matrices (queries, keys, values), with the rows of each: `sizes`."""
    return {
        module.weight: tuple(cast("tuple[int, ...]", module.sizes))
        for module in model.modules()
        if isinstance(module, nn.Linear) and hasattr(module, "sizes")
    }


def set_learning_rate(optimizer: torch.optim.Optimizer, multiplier: float) -> float:
    """Sets every group to `multiplier` times its peak; returns the first group's rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * multiplier
    return float(optimizer.param_groups[0]["lr"])


def layer_of(name: str, depth: int) -> int:
    """0 for what is below the blocks (embeddings, positions), 1 ... depth for theirs, depth + 1 for what is above."""
    if found := re.search(r"\bblocks\.(\d+)\.", name):
        return int(found[1]) + 1
    return 0 if re.search(r"\b(embed|position)\b", name) else depth + 1


def _adamw_groups(
    model: nn.Module, names: dict[Tensor, str], taken: set[Tensor], config: OptimizerConfig
) -> list[dict[str, Any]]:
    """The groups for AdamW: with decay and without, and with `layer_decay` for every layer its own."""
    spared = set(getattr(model, "no_weight_decay", set)())
    depth = max((layer_of(name, 0) for name in names.values() if "blocks." in name), default=0)
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for p, name in names.items():
        if p not in taken:
            decay = config.weight_decay if p.ndim >= 2 and name not in spared else 0.0
            lr = config.lr * config.layer_decay ** (depth + 1 - layer_of(name, depth))
            groups.setdefault((lr, decay), []).append(p)
    return [
        _group(params, lr, decay, kind="adamw") | {"betas": tuple(config.betas), "eps": config.eps}
        for (lr, decay), params in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]


def _group(params: Iterable[Tensor], lr: float, weight_decay: float, kind: str) -> dict[str, Any]:
    group = {"params": list(params), "lr": lr, "initial_lr": lr, "weight_decay": weight_decay, "kind": kind}
    return group | {"fused": True}  # by which torch knows to restore step counters to the parameters' device
