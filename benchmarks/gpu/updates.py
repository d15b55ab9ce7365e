"""A bare training step, as text and vision are measured on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from core.devices import autocast

Update = Callable[[Tensor, Tensor], None]


def updater(objective: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> Update:
    """What a step does with (inputs, targets): forward in bfloat16 where the device has it, backward, clipping, update.

    count: what the summed loss is divided by.
    """
    parameters = [p for p in objective.parameters() if p.requires_grad]

    def update(inputs: Tensor, targets: Tensor) -> None:
        with autocast("auto", inputs.device):
            loss = objective(inputs, targets) / count
        loss.backward()
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        clip_grads_with_norm_(parameters, 1.0, norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update
