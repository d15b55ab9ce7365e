"""Muon: momentum, made orthogonal. All hidden matrices of one shape are orthogonalised as one batch.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the arithmetic of `torch.optim.Muon`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from core.devices import native_dtype
from core.scale.shards import cut_like, is_sharded, joined_like, local

# x -> a x + b x^3 + c x^5 pulls singular values towards 1; chosen for a steep slope at 0 (Jordan 2024).
A, B, C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
EPS = 1e-7


def orthogonalize(stack: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, R, C) -> (N, R, C) of `dtype`: each U S V^T becomes about U V^T, by quintic Newton-Schulz steps.

    Singular values end between about 0.7 and 1.2. The work is done on the shorter side of the matrices.
    """
    norm = torch.linalg.vector_norm(stack, dim=(-2, -1), keepdim=True).clamp_min(EPS)
    x = (stack / norm).to(dtype)
    rows, columns = x.shape[-2:]
    if dtype != torch.bfloat16 and max(rows, columns) >= 2 * min(rows, columns):
        return _by_gram(x)
    for _ in range(ITERATIONS):
        if rows <= columns:
            x = torch.baddbmm(x, _polynomial(torch.bmm(x, x.mT)), x, beta=A)
        else:
            x = torch.baddbmm(x, x, _polynomial(torch.bmm(x.mT, x)), beta=A)
    return x


def _polynomial(gram: Tensor) -> Tensor:
    """(N, M, M) -> b G + c G^2."""
    return torch.baddbmm(gram, gram, gram, beta=B, alpha=C)


def _by_gram(x: Tensor) -> Tensor:
    """The same steps carried out on G = X X^T alone: less work for long matrices, but too coarse in bf16.

    With Q_k = a + b G_k + c G_k^2, X_(k+1) = Q_k X_k and, all of them commuting, G_(k+1) = Q_k G_k Q_k.
    """
    wide = x.shape[-2] <= x.shape[-1]
    gram = torch.bmm(x, x.mT) if wide else torch.bmm(x.mT, x)  # (N, M, M), M the shorter side
    identity = A * torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    product = identity.new_zeros(())
    for k in range(ITERATIONS):
        factor = _polynomial(gram) + identity
        product = factor if k == 0 else torch.bmm(factor, product)
        if k < ITERATIONS - 1:
            gram = torch.bmm(torch.bmm(factor, gram), factor)
    return torch.bmm(product, x) if wide else torch.bmm(x, product)


def scale(kind: str, rows: int, columns: int) -> float:
    """What an orthogonal update of this shape is multiplied by beside the learning rate.

    "original": sqrt(max(1, rows / columns)) (Jordan 2024). "match_rms_adamw": entries with AdamW's usual root
    mean square of 0.2, so that its learning rate fits (Liu et al. 2025, eq. 4).
    """
    return math.sqrt(max(1.0, rows / columns)) if kind == "original" else 0.2 * math.sqrt(max(rows, columns))


class MuonAdamW(torch.optim.Optimizer):
    """One optimiser over two kinds of groups: `kind="muon"` (matrices) and `kind="adamw"` (everything else).

    A muon group has lr, weight_decay, momentum, scale; an adamw group lr, weight_decay, betas, eps. `parts`
    gives the rows of each matrix stacked in one parameter; a parameter not in it is one matrix. `dtype` is
    the orthogonalisation's; None is `native_dtype` of the parameters' device. Sharded matrices are gathered one by one.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        parts: dict[Tensor, tuple[int, ...]],
        dtype: torch.dtype | None = None,
    ):
        super().__init__(groups, defaults={})
        self.parts, self.dtype = parts, dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                (self._muon if group["kind"] == "muon" else self._adamw)(group, params, [p.grad for p in params])
        return loss

    def _muon(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        lr, momentum = group["lr"], group["momentum"]
        moments = [local(self._state(p, "momentum")["momentum"]) for p in params]
        own, grads = [*map(local, params)], [*map(local, grads)]
        torch._foreach_lerp_(moments, grads, 1.0 - momentum)
        updates = torch._foreach_lerp(grads, moments, momentum)  # Nesterov: look one step ahead
        if group["weight_decay"]:
            torch._foreach_mul_(own, 1.0 - lr * group["weight_decay"])
        sizes = [self.parts.get(p, (p.shape[0],)) for p in params]
        if not is_sharded(params[0]):
            self._add_directions(group, own, updates, sizes)
            return
        for p, mine, update, rows in zip(params, own, updates, sizes, strict=True):
            joined = joined_like(update, p)
            change = torch.zeros_like(joined)
            self._add_directions(group, [change], [joined], [rows])
            mine.add_(local(cut_like(change, p)))

    def _add_directions(
        self, group: dict[str, Any], params: list[Tensor], updates: Sequence[Tensor], sizes: list[tuple[int, ...]]
    ) -> None:
        """Adds to whole matrices the orthogonal directions of their updates."""
        dtype = self.dtype or native_dtype(params[0].device)
        for (rows, columns), (targets, sources) in _by_shape(params, updates, sizes).items():
            directions = orthogonalize(torch.stack(sources), dtype).to(targets[0].dtype).unbind(0)
            torch._foreach_add_(targets, directions, alpha=-group["lr"] * scale(group["scale"], rows, columns))

    def _adamw(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        states = [self._state(p, "exp_avg", "exp_avg_sq") for p in params]
        params, grads = [*map(local, params)], [*map(local, grads)]
        for p, state in zip(params, states, strict=True):
            if "step" not in state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
        adamw(
            params, grads, [local(s["exp_avg"]) for s in states], [local(s["exp_avg_sq"]) for s in states],
            max_exp_avg_sqs=[], state_steps=[s["step"] for s in states],
            fused=True, amsgrad=False, maximize=False,
            beta1=group["betas"][0], beta2=group["betas"][1], lr=group["lr"],
            weight_decay=group["weight_decay"], eps=group["eps"],
        )  # fmt: skip

    def _state(self, p: Tensor, *names: str) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[p]
        for name in names:
            if name not in state:
                state[name] = torch.zeros_like(p)
        return state


def _by_shape(
    params: list[Tensor], updates: Sequence[Tensor], sizes: list[tuple[int, ...]]
) -> dict[tuple[int, int], tuple[list[Tensor], list[Tensor]]]:
    """Single matrices, as views of their parameters, and their updates, gathered by (rows, columns)."""
    found: dict[tuple[int, int], tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    for p, update, parts in zip(params, updates, sizes, strict=True):
        for rows, target, source in zip(parts, p.split(parts), update.split(parts), strict=True):
            targets, sources = found[rows, p.shape[1]]
            targets.append(target)
            sources.append(source)
    return found
