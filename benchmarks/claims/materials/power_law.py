"""How the loss falls with size and data: L = E + A / N^a + B / D^b (Hoffmann 2022, approach 3), and how surely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Rows (N, D, loss)."""


def loss_of(law: NDArray[np.float64], n: Any, d: Any) -> Any:
    """E + A / N^a + B / D^b of law = (E, log A, a, log B, b)."""
    return law[0] + np.exp(law[1] - law[2] * np.log(n)) + np.exp(law[3] - law[4] * np.log(d))


def fitted(points: Points) -> NDArray[np.float64]:
    """The law that is nearest to the points, by Huber's loss of the logarithms."""
    from scipy.optimize import least_squares

    n, d, loss = points.T
    bounds = [0.0, -5, 0.05, -5, 0.05], [loss.min(), 25, 1.5, 25, 1.5]
    starts = [[0.5 * loss.min(), 3, 0.3, 3, 0.3], [0.8 * loss.min(), 5, 0.5, 6, 0.5]]
    solved = [least_squares(lambda law: np.log(loss_of(law, n, d) / loss), start, bounds=bounds, loss="huber",
                            f_scale=1e-3) for start in starts]  # fmt: skip
    return min(solved, key=lambda one: one.cost).x


def bounds(
    points: list[list[float]], at: tuple[float, float], level: float, draws: int, seed: int
) -> tuple[float, float]:
    """Between which the loss of another model lies with that probability: the law is fitted again to losses that are
    drawn from it, with what the points were off it by (Efron 1979)."""
    known, random = np.array(points), np.random.default_rng(seed)
    law = fitted(known)
    left = known[:, 2] - loss_of(law, known[:, 0], known[:, 1])
    scale = math.sqrt(len(known) / max(1, len(known) - len(law)))  # the fit has taken some of what is left
    losses = []
    for _ in range(draws):
        again, more = known.copy(), random.choice(scale * left, len(known) + 1)
        again[:, 2] = loss_of(law, known[:, 0], known[:, 1]) + more[1:]
        losses.append(loss_of(fitted(again), *at) + more[0])
    low, high = np.quantile(losses, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def best_size(sizes: Sequence[float], losses: Sequence[float]) -> float:
    """The size at the bottom of the parabola through losses of one budget, over the logarithm of the size."""
    square, slope, _ = np.polyfit(np.log(sizes), losses, 2)
    return math.exp(-slope / (2 * square))


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """The a of the power law y = c x^a nearest to the points, in logarithms."""
    return float(np.polyfit(np.log(xs), np.log(ys), 1)[0])
