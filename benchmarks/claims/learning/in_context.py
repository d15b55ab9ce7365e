"""In-context learning: a Transformer that has seen many regressions solves a new one from its prompt (Garg 2022).

A prompt is examples x, y with y = w x + noise and a w of its own. Each token holds an example and the x that is asked
for next: pairing an x with its y, two tokens in that paper, isn't what the claim is about. The judge is exact: with w
and x from N(0, 1) and noise of a known size, ridge regression with that variance as its penalty is the best that any
method can do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.claims.common import FASTER, Claim, Draw, Finding, Lab, fit, generator, seeded, spread
from benchmarks.claims.materials.regressions import NOISE, RIVALS, SHIFTS, D, K, Prompts, Shift, draw, ridge
from benchmarks.claims.picture import Lines, Scale
from benchmarks.claims.verdict import Condition
from core.graph import causal
from core.init import initialise
from core.positions import index
from core.transformer import Transformer
from text.presets import modern_core

BATCH, TESTED = 512, 4096
MAIN, REST = 0.8, 0.05  # of a seed's time: the training that is judged, and each of four with so many tasks
Curves = list[list[float]]
"""Errors of several seeds, by the number of examples."""
TASKS = {"1 task": 1, "16 tasks": 16, "256 tasks": 256, "any task": 0}


class Regressor(nn.Module):
    """Numbers come in by one linear map, and an answer leaves by another; between them stands the core."""

    def __init__(self, dim: int = 64, depth: int = 3, n_heads: int = 4):
        super().__init__()
        core = modern_core(dim, depth, n_heads)
        self.read_in, self.core = nn.Linear(2 * D + 1, dim), Transformer(core, extent=(K,))
        self.head = nn.Linear(dim, 1)
        initialise(core, {self.read_in: "unit-scale", self.head: "head"})

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The answer to each x, from the examples before it: (B, K, D), (B, K) -> (B, K)."""
        examples = torch.cat((x, y.unsqueeze(-1)), dim=-1)[:, :-1]  # (B, K - 1, D + 1)
        before = F.pad(examples, (0, 0, 1, 0))  # (B, K, D + 1): nothing before the first
        tokens = self.read_in(torch.cat((before, x), dim=-1))  # (B, K, dim)
        return self.head(self.core(tokens, index(K), causal())).squeeze(-1)

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`)."""
        below, *blocks = self.core.layered_modules()
        return [[self.read_in, *below], *blocks]


def training_draw(tasks: Tensor | None) -> Draw:
    return lambda g: draw(g, BATCH, tasks)[:2]


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x, y) - y).square().sum()


@torch.no_grad()
def errors(answer: Callable[[Prompts], Tensor], shift: Shift = "as trained") -> list[float]:
    """Mean squared distance to the answer without noise, by the number of examples: K numbers."""
    p = draw(generator(0, "test"), TESTED, shift=shift)
    return (answer(p) - p.true).square().mean(0).tolist()


def trained(seed: int, seconds: float, tasks: int = 0) -> Regressor:
    """A model that has seen so many different regressions; 0 = ever new ones."""
    known = torch.randn(tasks, D, generator=generator(seed, "tasks")) if tasks else None
    model: Regressor = seeded(seed, Regressor)
    fit(model, loss, training_draw(known), seconds, seed, optimizer=FASTER)
    return model


def judged(seed: int, seconds: float) -> dict[str, list[float]]:
    model = trained(seed, seconds)
    return {shift: errors(lambda p: model(p.x, p.y), shift) for shift in SHIFTS}


def of_few(tasks: int, seconds: float, seed: int) -> list[float]:
    model = trained(seed, seconds, tasks)
    return errors(lambda p: model(p.x, p.y))


def shown(curves: Curves) -> list[str]:
    """Of the table: the errors of several seeds after 1, D and 2 D examples."""
    return [spread([curve[k] for curve in curves]) for k in (1, D, 2 * D)]


def over(curves: Curves, best: list[float]) -> Curves:
    """Errors as multiples of the best possible."""
    return [[c / b for c, b in zip(curve, best, strict=True)] for curve in curves]


def measure(lab: Lab) -> Finding:
    whole = lab.seconds(1)
    own = lab.each_seed("any task, judged", lambda seed: judged(seed, MAIN * whole))
    few = {name: lab.each_seed(name, partial(of_few, tasks, REST * whole)) for name, tasks in TASKS.items()}
    rivals = {name: errors(answer) for name, answer in RIVALS.items()}
    best = {shift: errors(ridge, shift) for shift in SHIFTS}
    curves = {shift: [one[shift] for one in own] for shift in SHIFTS}
    ours = curves[SHIFTS[0]]
    worst = tuple(max(ratios) for ratios in over(ours, best[SHIFTS[0]]))
    lead = tuple(min(rivals["averaging"][-1], rivals["nearest neighbour"][-1]) / curve[-1] for curve in ours)
    rows = [["Transformer", *shown(ours)], *([name, *shown([curve])] for name, curve in rivals.items())]
    rows += [[f"trained on {name}, {REST:.0%} of the time", *shown(few[name])] for name in TASKS]
    for shift in SHIFTS[1:]:
        rows += [[f"{shift}: Transformer", *shown(curves[shift])], [f"{shift}: ridge", *shown([best[shift]])]]
    lines = {"Transformer": ours} | {name: [curve] for name, curve in rivals.items()}
    shifted = {shift: over(curves[shift], best[shift]) for shift in SHIFTS[1:]}
    axes: tuple[Scale, Scale] = ("linear", "log")
    return Finding(
        ["squared error against the answer without noise", "1 example", f"{D} examples", f"{2 * D} examples"],
        rows,
        [
            Lines("one regression after another", "examples", "error", range(K), lines, axes),
            Lines("how many tasks it was trained on", "examples", "error", range(K), few, axes),
            Lines("other prompts than it was trained on", "examples", "error / ridge's", range(K), shifted, axes),
        ],
        [
            Condition(f"largest error over ridge's, 0 to {2 * D} examples", worst, "at most", 1.3, 0.02),
            Condition(f"how far below averaging and the nearest neighbour at {2 * D}", lead, "at least", 5, 0.1),
        ],
        [
            "The third try. With x and y as tokens of their own and batches of 64, the largest error was 1.78 times "
            "ridge's; with an example a token, 1.41 times."
        ],
    )


CLAIM = Claim(
    sentence="A Transformer learns from its prompt: shown a few examples of a new task, it solves it without training.",
    hypothesis=f"On linear regressions of {D} numbers with noise {NOISE}, the error of its answer is at most 1.3 times "
    f"that of the exact Bayes ridge at every number of examples up to {2 * D}, and at least 5 times below averaging "
    f"and the nearest neighbour at {2 * D}.",
    equal="the same 4,096 prompts for all; a Transformer of 64 channels and 3 blocks; seeds at equal core-seconds",
    measure=measure,
    minutes=48,
    least=4,
)
