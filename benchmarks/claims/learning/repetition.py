"""Repetition: text that is read several times, against as much fresh text (Muennighoff 2023).

A byte model of one size takes the same steps over novels, or over less and less of their beginning, again and again.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.claims.common import Claim, Finding, Lab, fit, next_token, seeded, spread, targets_of
from benchmarks.claims.learning.scaling import BATCH, HELD_OUT, LENGTH, PLATEAU, RATE, bits, build, size
from benchmarks.claims.materials.characters import novels, taken
from benchmarks.claims.picture import Lines
from benchmarks.claims.verdict import Condition
from text.presets import MUON

DIM, EPOCHS = 64, (1, 2, 4, 8, 16, 32)
FEW, MANY = 4, 32


def draw(unique: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Windows from the first so many bytes: 2 x int64 (BATCH, LENGTH)."""
    rows = taken(novels().train[:unique], LENGTH + 1, BATCH, g)
    return rows[:, :-1], rows[:, 1:]


def learned(steps: int, epochs: int, tested: int, seed: int) -> float:
    """Bits per held-out byte after so many steps, in which every byte is read so many times on average."""
    unique = max(LENGTH + 1, steps * BATCH * LENGTH // epochs)
    model = seeded(seed, partial(build, DIM))
    fit(model, next_token, partial(draw, unique), 0, seed, count=targets_of, optimizer=MUON, schedule=PLATEAU,
        steps=steps)  # fmt: skip
    return bits(model, tested)


def measure(lab: Lab) -> Finding:
    steps = max(1, round(RATE * lab.seconds(len(EPOCHS)) / (6 * size(DIM) * LENGTH * BATCH)))
    tested, read = 20_000 if lab.quick else HELD_OUT, steps * BATCH * LENGTH
    found = {n: lab.each_seed(f"{n} times", partial(learned, steps, n, tested)) for n in EPOCHS}
    dearer = {n: [a - b for a, b in zip(found[n], found[1], strict=True)] for n in EPOCHS}
    return Finding(
        ["each byte is read", "different bytes", "bits per byte", "more than of fresh text"],
        [[f"{n} times" if n > 1 else "once", f"{read // n:,}", spread(found[n]), spread(dearer[n])] for n in EPOCHS],
        [Lines(f"{read:,} bytes read", "times that each is read", "bits per held-out byte", EPOCHS,
               {"": [list(row) for row in zip(*found.values(), strict=True)]}, ("log", "linear"))],
        [
            Condition(f"read {FEW} times, over fresh text, in bits", tuple(dearer[FEW]), "at most", 0.02, 0.004),
            Condition(f"read {MANY} times, over fresh text, in bits", tuple(dearer[MANY]), "at least", 0.05, 0.004),
        ],
        [f"{size(DIM):,} parameters without embeddings; windows are drawn anywhere, so that a byte is read so many "
         "times on average. Fresh text, too, is drawn so, from as many bytes as are read."],
    )  # fmt: skip


CLAIM = Claim(
    sentence="Text that is read a few times teaches almost as much as fresh text; read many times, it teaches no more.",
    hypothesis=f"After as many steps, text read {FEW} times costs at most 0.02 bits per held-out byte against text "
    f"read once; read {MANY} times it costs at least 0.05.",
    equal="parameters and steps",
    measure=measure,
    minutes=18,
    least=8,
    needs=("british_novels/train.txt",),
)
