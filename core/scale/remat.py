"""Activation checkpointing: what a block needs for its gradients is computed again on the way back (Chen 2016)."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

Remat = Literal["none", "blocks", "selective"]

aten = torch.ops.aten
KEPT = {
    aten.mm.default,
    aten.addmm.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
}
"""Operations that cost more to repeat than their results cost to keep, which grow with the tokens alone."""


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of a model, in order: of the modules that it lists by depth, those that stand in a `ModuleList`.

    See `layered_modules` in `core.optim.groups`. Empty for a model without blocks, a recurrent one for example.
    """
    declared = getattr(model, "layered_modules", None)
    listed = {member for part in model.modules() if isinstance(part, nn.ModuleList) for member in part}
    layers: list[list[nn.Module]] = declared()[1:] if declared else []
    return [module for layer in layers for module in layer if module in listed]


def rematerialise(model: nn.Module, kind: Remat) -> None:
    """Makes the blocks of a model forget what they computed, in place; outputs, gradients and names stay.

    blocks:    of each block only its input is kept, and all of it is computed twice
    selective: the results of linear maps and of fused attention are kept too; the rest, which is cheap, is not

    Random numbers are drawn again as they were. Raises ValueError for a model without blocks.
    """
    if kind == "none":
        return
    blocks = blocks_of(model)
    if not blocks:
        raise ValueError(f"remat = {kind!r} has no effect: {type(model).__name__} has no blocks")
    settings: dict[str, Any] = {} if kind == "blocks" else {"context_fn": _selective}
    for block in blocks:
        block.forward = _forgetful(block.forward, settings)


def _forgetful(forward: Callable[..., Any], settings: dict[str, Any]) -> Callable[..., Any]:
    """The same function, which computes once more where gradients are asked for."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **settings, **kwargs)

    return call


def _keeps(_: object, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in KEPT else CheckpointPolicy.PREFER_RECOMPUTE


_selective = partial(create_selective_checkpoint_contexts, _keeps)
