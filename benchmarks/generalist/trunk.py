"""Several models over the same blocks, and how their tasks pull at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Generalist(nn.Module):
    """Models of several panels whose cores share blocks and last norm.

    Embedding, positions and head stay each model's own; in the blocks a character, a patch and a state are alike.

    Raises ValueError where the blocks of two models are not of the same shape.
    """

    def __init__(self, models: Mapping[str, Any]):
        super().__init__()
        first, *others = models.values()
        for model in others:
            check_alike(first.core, model.core)
            model.core.blocks, model.core.norm = first.core.blocks, first.core.norm
        self.models = nn.ModuleDict(models)
        self.layers: list[list[list[nn.Module]]] = [model.layered_modules() for model in models.values()]
        self.shared: list[Tensor] = [*first.core.blocks.parameters(), *first.core.norm.parameters()]
        spared = {name: model.no_weight_decay() for name, model in models.items() if hasattr(model, "no_weight_decay")}
        self.spared = {f"models.{name}.{parameter}" for name, parameters in spared.items() for parameter in parameters}

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`): the blocks of one model are those of all."""
        return [[module for below, *_ in self.layers for module in below], *self.layers[0][1:]]

    def no_weight_decay(self) -> set[str]:
        """The parameters that the models spare, by their names here."""
        return self.spared


def check_alike(a: Any, b: Any) -> None:
    """Raises ValueError naming the first weight of the blocks that differs in shape."""
    ours, theirs = ({name: tuple(p.shape) for name, p in core.blocks.named_parameters()} for core in (a, b))
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            raise ValueError(f"blocks cannot be shared: {name} is {ours.get(name)} and {theirs.get(name)}")


def gradient_cosines(gradients: Sequence[Sequence[Tensor]]) -> Tensor:
    """Cosines between the gradients of several tasks with respect to the same parameters: float64 (N, N)."""
    flat = torch.stack([torch.cat([g.flatten().double() for g in each]) for each in gradients])  # (N, P)
    unit = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return unit @ unit.T
