"""Linear regressions as prompts, and the methods that a Transformer is judged by: exact Bayes, and simpler ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

D, K, NOISE = 5, 11, 0.5
"""Numbers of an x, examples of a prompt, and the standard deviation of the noise."""
Shift = Literal["as trained", "twice the noise", "x three times as large", "x in a plane"]
SHIFTS: tuple[Shift, ...] = ("as trained", "twice the noise", "x three times as large", "x in a plane")


class Prompts(NamedTuple):
    """Examples of one regression each, and their answers without noise."""

    x: Tensor  # (B, K, D)
    y: Tensor  # (B, K)
    true: Tensor  # (B, K)


def draw(g: torch.Generator, batch: int, tasks: Tensor | None = None, shift: Shift = "as trained") -> Prompts:
    """Prompts of new regressions, or of some of `tasks` (M, D)."""
    x = torch.randn(batch, K, D, generator=g)
    w = torch.randn(batch, D, generator=g)
    if tasks is not None:
        w = tasks[torch.randint(len(tasks), (batch,), generator=g)]
    if shift == "x three times as large":
        x = 3 * x
    if shift == "x in a plane":
        x[..., 2:] = 0
    true = torch.einsum("bkd,bd->bk", x, w)
    noise = NOISE * (2 if shift == "twice the noise" else 1)
    return Prompts(x, true + noise * torch.randn(true.shape, generator=g), true)


def moments(p: Prompts) -> tuple[Tensor, Tensor]:
    """Sums over the examples before each: of x x^T, (B, K, D, D), and of x y, (B, K, D)."""
    outer, pay = p.x.unsqueeze(-1) * p.x.unsqueeze(-2), p.x * p.y.unsqueeze(-1)
    return outer.cumsum(1) - outer, pay.cumsum(1) - pay


def ridge(p: Prompts, penalty: float = NOISE**2) -> Tensor:
    """The answers of Bayes: (B, K)."""
    a, b = (m.double() for m in moments(p))
    w = torch.linalg.solve(a + penalty * torch.eye(D, dtype=torch.float64), b)
    return (w.float() * p.x).sum(-1)


def least_squares(p: Prompts) -> Tensor:
    """Those of the shortest w with the least squared error."""
    a, b = (m.double() for m in moments(p))
    return ((torch.linalg.pinv(a, hermitian=True, rtol=1e-9) @ b.unsqueeze(-1)).squeeze(-1).float() * p.x).sum(-1)


def averaging(p: Prompts) -> Tensor:
    """Those of w = mean of x y."""
    return (moments(p)[1] * p.x).sum(-1) / torch.arange(K).clamp(min=1)


def nearest(p: Prompts) -> Tensor:
    """The y of the nearest x before; 0 at first."""
    far = torch.cdist(p.x, p.x).masked_fill(torch.ones(K, K).triu().bool(), torch.inf)
    answer = p.y.gather(1, far.argmin(-1))
    return torch.cat((torch.zeros(len(p.y), 1), answer[:, 1:]), dim=1)


RIVALS: dict[str, Callable[[Prompts], Tensor]] = {
    "Bayes ridge": ridge,
    "least squares": least_squares,
    "averaging": averaging,
    "nearest neighbour": nearest,
}
