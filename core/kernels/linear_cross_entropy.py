"""Cross-entropy over a large vocabulary, some rows at a time, with its gradients at once.

The logits of all rows are never in memory together: those of 256 rows stay in a processor's cache, where PyTorch's own
operations pass about eight times through (N, V) numbers in main memory.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

ROWS = 256
SMALL = 1 << 18
"""Logits up to which PyTorch's own operations are as fast."""


class Plain(Protocol):
    """The operation without a kernel."""

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float) -> Tensor: ...


def kernel(
    plain: Plain, x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float = 0.0
) -> Tensor:
    """For a CPU, in float32 or bfloat16."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    suits = x.device.type == "cpu" and dtype in (torch.float32, torch.bfloat16) and not torch.compiler.is_compiling()
    if not suits or len(x) * len(weight) <= SMALL:
        return plain(x, weight, bias, targets, smoothing)
    if not torch.is_grad_enabled():
        chunks = zip(x.split(ROWS), targets.split(ROWS), strict=True)
        return torch.stack([plain(rows, weight, bias, truth, smoothing) for rows, truth in chunks]).sum()
    counted = (targets >= 0).nonzero().squeeze(1)
    if len(counted) < len(targets):
        x, targets = x.index_select(0, counted), targets[counted]
    loss: Tensor = _LinearCrossEntropy.apply(x, weight, bias, targets, smoothing, dtype)
    return loss - smoothing * _sum_of_mean_logits(x, weight, bias) if smoothing else loss


def _sum_of_mean_logits(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Summed over the rows: linear in x and weight, it needs no logits, nor does its gradient."""
    total = (x.sum(0) * weight.mean(0)).sum()
    return total if bias is None else total + len(x) * bias.mean()


class _LinearCrossEntropy(torch.autograd.Function):
    """log sum exp z - (1 - smoothing) z_target, summed over the rows of logits z; products are computed in `dtype`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float, dtype: torch.dtype
    ) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            rows, factor, offset = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
            by_x, by_weight = torch.empty_like(rows), torch.zeros_like(weight, dtype=torch.float32)
            by_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
            losses = []
            for some, by_some, truth in zip(*(t.split(ROWS) for t in (rows, by_x, targets)), strict=True):
                loss, by_logits = _chunk(F.linear(some, factor, offset), truth, smoothing)
                losses.append(loss)
                torch.mm(by_logits, factor, out=by_some)
                _add_product(by_weight, by_logits.t(), some)
                if by_bias is not None:
                    by_bias.add_(by_logits.sum(0))
        ctx.save_for_backward(by_x.type_as(x), by_weight.type_as(weight), by_bias)
        return torch.stack(losses).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (None if gradient is None else gradient * grad for gradient in ctx.saved_tensors)
        return *gradients, None, None, None


def _chunk(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The loss of some rows, and its gradient by their logits, p - (1 - smoothing) at the target: (n, V) -> (), (n, V).

    log sum exp z = z_target - log p_target, which saves a pass through the logits.
    """
    places = targets.unsqueeze(1)  # (n, 1)
    p = logits.softmax(-1, dtype=torch.float32)
    log_p = p.gather(1, places).log_()
    if log_p.min() == -torch.inf:  # too small for float32
        log_p = logits.float().log_softmax(-1).gather(1, places)
    loss = (smoothing * logits.gather(1, places) - log_p).sum()
    return loss, p.scatter_add_(1, places, torch.full_like(log_p, smoothing - 1)).type_as(logits)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, a sum in float32 whatever the product is computed in."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total.add_(torch.mm(a, b))
