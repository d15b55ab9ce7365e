"""Which parameter is updated how: decay, no decay, Muon. Every parameter in exactly one group.

A model may declare:

    layered_modules()   its modules by depth: those below the blocks, then those of each block. What is not listed
                        stands above them. Linear maps in blocks hold hidden matrices.
    no_weight_decay()   names of parameters that have two axes or more and are no matrices, such as tables of positions
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from core.optim.config import OptimizerConfig
from core.optim.muon import MuonAdamW

PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


class ParameterRole(NamedTuple):
    """What a parameter is."""

    decay: bool  # whether weight decay is for it
    matrices: tuple[int, ...]  # rows of each hidden matrix that it stacks, for Muon (Jordan 2024); () if it holds none
    layer: int  # 0 below the blocks (embeddings, positions), 1 ... depth in them, depth + 1 above


def parameter_roles(model: nn.Module) -> dict[str, ParameterRole]:
    """The role of every parameter by its name, in the order of `model.named_parameters()`."""
    declared = getattr(model, "layered_modules", None)
    layers: list[list[nn.Module]] = declared() if declared else [[]]
    spared: set[str] = getattr(model, "no_weight_decay", set)()
    depth: dict[Tensor, int] = {}
    matrices: dict[Tensor, tuple[int, ...]] = {}
    for number, modules in enumerate(layers):
        for module in modules:
            depth |= dict.fromkeys(module.parameters(), number)
            matrices |= hidden_matrices(module) if number else {}
    return {
        name: ParameterRole(p.ndim >= 2 and name not in spared, matrices.get(p, ()), depth.get(p, len(layers)))
        for name, p in model.named_parameters()
    }


def hidden_matrices(module: nn.Module) -> dict[Tensor, tuple[int, ...]]:
    """The weights of the linear maps in a module, with the rows of each matrix: `sizes` where one stacks several."""
    maps = [part for part in module.modules() if isinstance(part, nn.Linear)]
    return {part.weight: getattr(part, "sizes", (part.out_features,)) for part in maps}


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """An optimiser over all trainable parameters of `model`, by their roles; moving the model in place later is fine.

    With `kind="muon"`, hidden matrices go to Muon. Each group keeps the peak learning rate as `initial_lr`. A tied
    parameter is updated once.
    """
    roles = parameter_roles(model)
    trainable: dict[Tensor, ParameterRole] = {p: roles[name] for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError(f"{type(model).__name__} has no trainable parameter")
    matrices = {p: role.matrices for p, role in trainable.items() if role.matrices and config.kind == "muon"}
    groups = _adamw_groups({p: role for p, role in trainable.items() if p not in matrices}, roles.values(), config)
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    if not any(role.matrices for role in roles.values()):
        raise ValueError(f"optimizer.kind = 'muon' finds no hidden matrix in {type(model).__name__}; take 'adamw'")
    if matrices:  # otherwise they are frozen
        groups.append(_group(matrices, config.muon_lr, config.muon_weight_decay, kind="muon"))
        groups[-1].update(momentum=config.muon_momentum, scale=config.muon_scale)
    return MuonAdamW(groups, matrices, PRECISIONS[config.muon_precision])


def set_learning_rate(optimizer: torch.optim.Optimizer, multiplier: float) -> float:
    """Sets every group to `multiplier` times its peak; returns the first group's rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * multiplier
    return float(optimizer.param_groups[0]["lr"])


def _adamw_groups(
    trainable: Mapping[Tensor, ParameterRole], every: Iterable[ParameterRole], config: OptimizerConfig
) -> list[dict[str, Any]]:
    """The groups for AdamW: with decay and without, and with `layer_decay` for every layer its own."""
    top = max(role.layer for role in every)
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for p, role in trainable.items():
        lr = config.lr * config.layer_decay ** (top - role.layer)
        groups.setdefault((lr, config.weight_decay if role.decay else 0.0), []).append(p)
    return [
        _group(params, lr, decay, kind="adamw") | {"betas": tuple(config.betas), "eps": config.eps}
        for (lr, decay), params in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]


def _group(params: Iterable[Tensor], lr: float, weight_decay: float, kind: str) -> dict[str, Any]:
    group = {"params": list(params), "lr": lr, "initial_lr": lr, "weight_decay": weight_decay, "kind": kind}
    return group | {"fused": True}  # by which torch knows to restore step counters to the parameters' device
