"""Scaling: the loss of a larger budget, predicted from smaller ones before it is trained.

Byte models of several sizes learn from novels at three budgets of floating-point operations, C = 6 N D. To their losses
L = E + A / N^a + B / D^b is fitted (Hoffmann 2022, approach 3); refitted to the losses drawn anew, it gives an
interval. The size that it names best for twice the largest budget, and the loss there, are written down; then that
model is trained. With `--predict` they are written to a file, which can be committed before the run that tests them.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.claims.common import Claim, Finding, Lab, fit, next_token, parameters, seeded, spread, targets_of
from benchmarks.claims.materials.characters import novels, taken
from benchmarks.claims.materials.power_law import best_size, bounds, exponent, fitted, loss_of
from benchmarks.claims.picture import Lines
from benchmarks.claims.verdict import Condition
from core.optim.config import ScheduleConfig
from text.corpus.windows import validation_batches
from text.models.gpt import GPT, GPTConfig
from text.presets import MUON, modern_core
from text.tasks.language_modelling import NextTokenLoss

SHAPES = {32: 2, 48: 2, 64: 3, 96: 3}  # channels: blocks
TIMES, NEXT, LENGTH, BATCH = (1, 2, 4), 8, 128, 16
RATE = 1.5e10  # operations a core-second that such small models reach, about: what makes minutes of operations
HELD_OUT, DRAWS, LEVEL = 200_000, 200, 0.9
PLATEAU = ScheduleConfig("wsd", 0.05, 0.4, 0.0)


def build(dim: int) -> GPT:
    return GPT(GPTConfig(256, LENGTH, "untied", modern_core(dim, SHAPES[dim], dim // 16)))


@lru_cache
def sizes_of(dim: int) -> dict[str, int]:
    """The three things that are called N."""
    model = build(dim)
    everything, table = parameters(model), model.embed.weight.numel()
    return {"blocks and head": everything - table, "everything": everything, "blocks": everything - 2 * table}


def size(dim: int) -> int:
    """N: what is multiplied with every token, the blocks and the head, but not the embeddings."""
    return sizes_of(dim)["blocks and head"]


def windows(g: torch.Generator) -> tuple[Tensor, Tensor]:
    rows = taken(novels().train, LENGTH + 1, BATCH, g)
    return rows[:, :-1], rows[:, 1:]


@torch.no_grad()
def bits(model: GPT, tested: int) -> float:
    """Bits per byte of the beginning of the novel that is held out."""
    text, objective = novels().validation[:tested], NextTokenLoss(model)
    total = sum(float(objective(*batch)) for batch in validation_batches(text, LENGTH, 64))
    return total / (len(text) - 1) / math.log(2)


def point(dim: int, operations: float, tested: int, seed: int) -> list[float]:
    """(N, D, loss) of a model that is trained with so many operations."""
    steps = max(1, round(operations / (6 * size(dim) * LENGTH * BATCH)))
    model = seeded(seed, partial(build, dim))
    fit(model, next_token, windows, 0, seed, count=targets_of, optimizer=MUON, schedule=PLATEAU, steps=steps)
    return [size(dim), steps * LENGTH * BATCH, bits(model, tested)]


def predicted(known: list[list[float]], operations: float, draws: int, seed: int) -> dict[str, Any]:
    """The best size at a budget, its loss, an interval of 90 %, and the exponents."""
    law, sizes = fitted(np.array(known)), {dim: size(dim) for dim in SHAPES}
    dim = min(sizes, key=lambda dim: loss_of(law, sizes[dim], operations / (6 * sizes[dim])))
    at = sizes[dim], operations / (6 * sizes[dim])
    low, high = bounds(known, at, LEVEL, draws, seed)
    return {"dim": dim, "loss": float(loss_of(law, *at)), "low": low, "high": high, "law": law.tolist()}


def points(operations: float, tested: int, lab: Lab, seed: int) -> list[list[float]]:
    """What a seed's prediction is made of."""
    return [lab.cell(f"{dim} channels, {times} x, seed {seed}", partial(point, dim, times * operations, tested, seed))
            for times in TIMES for dim in SHAPES]  # fmt: skip


def unit(lab: Lab) -> tuple[float, int]:
    """Operations of the smallest budget, and bytes that are held out."""
    return RATE * lab.seconds(1) / (sum(TIMES) * len(SHAPES) + NEXT), 20_000 if lab.quick else HELD_OUT


def foretold(lab: Lab, seed: int) -> dict[str, Any]:
    """The prediction of a seed: that of the file, or else one that is made now."""
    if key(seed) in lab.predicted:
        return dict(lab.predicted[key(seed)])
    operations, tested = unit(lab)
    known = points(operations, tested, lab, seed)
    made = partial(predicted, known, NEXT * operations, 10 if lab.quick else DRAWS, seed)
    said: dict[str, Any] = lab.cell(f"prediction, seed {seed}", made)
    print(f"  predicted: {said['loss']:.4f} bits, {said['low']:.4f} to {said['high']:.4f}", flush=True)
    return {"points": known, **said}


def key(seed: int) -> str:
    return f"seed {seed}"


def predict(lab: Lab) -> dict[str, Any]:
    """The predictions of all seeds. Raises ValueError where what they are about has been trained already."""
    if late := [name for name in lab.found if name.startswith("outcome")]:
        raise ValueError(f"{lab.kept} holds the {late[0]}: it is too late to predict; predict with another budget")
    return {key(seed): foretold(lab, seed) for seed in range(lab.seeds)}


def whole(lab: Lab, seed: int) -> dict[str, Any]:
    """The prediction of a seed, and then what came out."""
    (operations, tested), said = unit(lab), foretold(lab, seed)
    out = lab.cell(f"outcome, seed {seed}", partial(point, said["dim"], NEXT * operations, tested, seed))
    return {**said, "outcome": out[2]}


def growth(found: list[dict[str, Any]], kind: str) -> list[float]:
    """By which power of the operations the best N grows, of each seed."""
    sizes, across = [sizes_of(dim)[kind] for dim in SHAPES], len(SHAPES)
    curves = [[[n[2] for n in one["points"][at * across :][:across]] for at in range(len(TIMES))] for one in found]
    return [exponent(TIMES, [best_size(sizes, losses) for losses in curve]) for curve in curves]


def measure(lab: Lab) -> Finding:
    operations, found = unit(lab)[0], [whole(lab, seed) for seed in range(lab.seeds)]
    miss = tuple(abs(one["outcome"] - one["loss"]) for one in found)
    inside = tuple(off / max(1e-9, (one["high"] - one["low"]) / 2) for off, one in zip(miss, found, strict=True))
    rows = [[f"seed {n}", f"{one['dim']}", f"{one['loss']:.4f}", f"{one['low']:.4f} to {one['high']:.4f}",
             f"{one['outcome']:.4f}", f"{one['law'][2]:.2f}, {one['law'][4]:.2f}"]
            for n, one in enumerate(found)]  # fmt: skip
    lines = {f"{times} x {operations:.1e} operations": [
        [one["points"][n * len(SHAPES) + k][2] for k in range(len(SHAPES))] for one in found]
        for n, times in enumerate(TIMES)}  # fmt: skip
    return Finding(
        ["", "channels named best", "predicted bits per byte", "interval of 90 %", "trained then", "exponents a, b"],
        rows,
        [Lines("losses that the prediction is made of", "N", "bits per byte", [size(dim) for dim in SHAPES], lines,
               ("log", "linear"))],
        [
            Condition("distance of the outcome from the prediction, in bits", miss, "at most", 0.01, 0.001),
            Condition("the same over half of the interval", inside, "at most", 1, 0.05),
        ],
        ["Every seed makes its own points and its own prediction. " + lab.foretold,
         "The best N at a budget, at the bottom of a parabola, grows with the operations to the power of "
         + ", ".join(f"{spread(growth(found, kind), 2)} counting {kind}" for kind in sizes_of(min(SHAPES))) + "."],
    )  # fmt: skip


CLAIM = Claim(
    sentence="The loss follows a power law of size and data, so that a larger model's is known before it is trained.",
    hypothesis=f"The loss at {NEXT} times the smallest budget, predicted from {TIMES[0]} to {TIMES[-1]} times, comes "
    "out within 0.01 bits per byte of the prediction, and within its interval of 90 %.",
    equal="floating-point operations, 6 N D, at each budget",
    measure=measure,
    predict=predict,
    minutes=50,
    least=20,
    needs=("british_novels/train.txt",),
)
