"""From noise to images: the differential equation dx / dt = v(x, t), solved in equal steps from t = 0 to 1."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from core.checks import check_at_least, check_choices, check_positive

Velocity = Callable[[Tensor, float], Tensor]
"""(x (B, C, S, S), t) -> dx / dt, of the same shape."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How images are drawn."""

    steps: int = 50
    """Steps from noise to image."""
    sampler: Literal["euler", "heun"] = "heun"
    """One evaluation of the model a step, or two, whose error falls with the square of the number of steps."""
    guidance: float = 1.0
    """How far what is asked for is exaggerated (classifier-free guidance): 1 = not at all, 0 = nothing is asked for."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "steps")
        check_at_least(self, 0, "guidance")


def integrate(velocity: Velocity, noise: Tensor, drawing: Drawing) -> Iterator[Tensor]:
    """Yields where the noise (B, C, S, S) has come to after each step; the last are the images.

    Euler's method is of first order; Heun's, of second, corrects a step by the velocity at its end (Karras 2022,
    algorithm 1).
    """
    x, size = noise, 1 / drawing.steps
    for step in range(drawing.steps):
        before = velocity(x, step * size)
        ahead = x + size * before
        if drawing.sampler == "heun":
            ahead = x + size / 2 * (before + velocity(ahead, (step + 1) * size))
        x = ahead
        yield x


def guided(told: Velocity, untold: Velocity, scale: float) -> Velocity:
    """The velocity of what is told less that of nothing in particular, exaggerated (Ho & Salimans 2022, eq. 6)."""
    if scale == 1:
        return told
    if scale == 0:
        return untold

    def velocity(x: Tensor, t: float) -> Tensor:
        anything = untold(x, t)
        return anything + scale * (told(x, t) - anything)

    return velocity
