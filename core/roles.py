"""What the parameters of a model are, as the model declares it, for an optimiser to group them.

A model may declare:

    layered_modules()   its modules by depth: those below the blocks, then those of each block. What is not listed
                        stands above them. Linear maps in blocks hold hidden matrices.
    no_weight_decay()   names of parameters that have two axes or more and are no matrices, such as tables of positions
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class ParameterRole(NamedTuple):
    """What a parameter is."""

    decay: bool  # whether weight decay is for it
    matrices: tuple[int, ...]  # rows of each hidden matrix that it stacks, for Muon (Jordan 2024); () if it holds none
    layer: int  # 0 below the blocks (embeddings, positions), 1 ... depth in them, depth + 1 above


def parameter_roles(model: nn.Module) -> dict[str, ParameterRole]:
    """The role of every parameter by its name, in the order of `model.named_parameters()`."""
    layers: list[list[nn.Module]] = getattr(model, "layered_modules", _one_layer)()
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


def _one_layer() -> list[list[nn.Module]]:
    return [[]]


def hidden_matrices(module: nn.Module) -> dict[Tensor, tuple[int, ...]]:
    """The weights of the linear maps in a module, with the rows of each matrix: `sizes` where one stacks several."""
    maps = [part for part in module.modules() if isinstance(part, nn.Linear)]
    return {part.weight: getattr(part, "sizes", (part.out_features,)) for part in maps}
