"""Length: trained on additions of up to 10 digits, tested to 30, by kind of position.

Digits stand from the last to the first, 321+54=573, so that each needs the carry of the one before. `within` counts the
place of a digit within its own number (McLeish 2024, abacus): these are coordinates like any others, which the panel
gives to the core. Their distances are T5's, in few buckets: the same place, those beside it, and all that are further.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.claims.common import Claim, Draw, Finding, Lab, fit, generator, next_token, percent, seeded, targets_of
from benchmarks.claims.picture import Lines
from benchmarks.claims.verdict import Condition
from core.config import PositionConfig
from core.graph import causal
from core.init import initialise
from core.positions import index
from core.transformer import Transformer
from core.vocabulary import IGNORED, VocabularyHead
from text.presets import MUON, modern_core

Kind = Literal["learned", "rotary", "alibi", "none", "t5", "within"]
KINDS: tuple[Kind, ...] = ("learned", "rotary", "alibi", "none", "t5", "within")
SYMBOLS = "0123456789+=$"
TRAINED, LENGTHS, BATCH = 10, (5, 10, 11, 15, 20, 30), 64
NEAR = PositionConfig("t5", buckets=8, max_distance=9, direction="both")
QUICK = replace(MUON, lr=3e-2, weight_decay=0.0)  # scores of distances have to grow until far digits count for nothing
PLACES = 3 * max(LENGTHS) + 4


class Adder(nn.Module):
    """A decoder whose tokens have as coordinate their place in the row, or in their number."""

    def __init__(self, kind: Kind):
        super().__init__()
        self.kind = kind
        core = replace(modern_core(96, 4, 4), position=NEAR if kind == "within" else PositionConfig(kind))
        self.embed, self.core = nn.Embedding(len(SYMBOLS), core.dim), Transformer(core, extent=(PLACES,))
        self.head = VocabularyHead(core.dim, len(SYMBOLS))
        initialise(core, {self.embed: "embedding", self.head: "head"})

    def features(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> (B, T, D)."""
        coords = within(ids) if self.kind == "within" else index(ids.shape[1])
        return self.core(self.embed(ids), coords, causal())

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`)."""
        below, *blocks = self.core.layered_modules()
        return [[self.embed, *below], *blocks]


def within(ids: Tensor) -> Tensor:
    """The place of each digit in its number, from 1 on, and 0 for other symbols: (B, T) -> (B, T, 1)."""
    places = torch.arange(ids.shape[1]).expand_as(ids)
    since = torch.where(ids < 10, -1, places).cummax(1).values  # of the symbol before: the equals sign, the plus sign
    return (places - since).unsqueeze(-1)


def additions(digits: int, rows: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows a+b=c$ with two numbers of so many digits, last digits first, and c one longer: ids and targets (B, T)."""
    a, b = torch.randint(10, (2, rows, digits), generator=g)
    total, carry = [], torch.zeros(rows, dtype=torch.int64)
    for place in range(digits):
        carry = a[:, place] + b[:, place] + carry
        total.append(carry % 10)
        carry = carry // 10
    signs = [torch.full((rows, 1), SYMBOLS.index(sign)) for sign in "+=$"]
    whole = torch.cat((a, signs[0], b, signs[1], torch.stack([*total, carry], dim=1), signs[2]), dim=1)
    targets = whole[:, 1:].clone()
    targets[:, : 2 * digits + 1] = IGNORED
    return whole[:, :-1], targets


def training_draw(g: torch.Generator) -> tuple[Tensor, ...]:
    """All rows of a batch have one length."""
    return additions(int(torch.randint(1, TRAINED + 1, (), generator=g)), BATCH, g)


@torch.no_grad()
def right(model: Adder, digits: int, rows: int) -> float:
    """The share of additions with every digit right, each given the true ones before it.

    Where all are right, greedy decoding says the same; it goes wrong where one is not.
    """
    ids, targets = additions(digits, rows, generator(0, "test", digits))
    answer = targets != IGNORED
    said = model.head(model.features(ids)).argmax(-1)
    return ((said == targets) | ~answer).all(1).float().mean().item()


def by_length(kind: Kind, seconds: float, rows: int, seed: int) -> list[float]:
    model = seeded(seed, lambda: Adder(kind))
    draw: Draw = training_draw
    fit(model, next_token, draw, seconds, seed, count=targets_of, optimizer=QUICK, precision="auto")
    return [right(model, digits, rows) for digits in LENGTHS]


def measure(lab: Lab) -> Finding:
    seconds, rows = lab.seconds(len(KINDS)), 100 if lab.quick else 1000
    found = {kind: lab.each_seed(kind, partial(by_length, kind, seconds, rows)) for kind in KINDS}
    at = [tuple(one[LENGTHS.index(n)] for one in found["within"]) for n in (20, 30)]
    table = [
        [kind, *(percent([one[n] for one in seeds]) for n in range(len(LENGTHS)))] for kind, seeds in found.items()
    ]
    each = [[f"within, seed {seed}", *(f"{100 * value:.1f} %" for value in one)]
            for seed, one in enumerate(found["within"])]  # fmt: skip
    return Finding(
        ["positions", *(f"{n} digits" for n in LENGTHS)],
        table + each,
        [Lines(f"trained on 1 to {TRAINED} digits", "digits", "share of additions right", LENGTHS, found)],
        [
            Condition("places within a number, 20 digits", at[0], "at least", 0.95, 0.007),
            Condition("places within a number, 30 digits", at[1], "at least", 0.90, 0.01),
            Condition(
                "learned positions, 11 digits", tuple(one[2] for one in found["learned"]), "at most", 0.05, 0.007
            ),
        ],
        [
            "An addition is right where every digit and the end are, which greedy decoding then writes too.",
            "In this time the other positions haven't learned the lengths that they are trained on either. With 5 "
            "minutes at a rate of 3e-3, learned ones have 1, 2 and 5 digits right and no length between, rotary ones "
            "1 and 2 (one seed): every length is a task of its own.",
        ],
    )


CLAIM = Claim(
    sentence="Transformers don't count beyond what they have seen, unless their positions count for them.",
    hypothesis=f"Trained on additions of up to {TRAINED} digits, a model with learned positions gets at most 5 % of "
    "those with 11 right; one whose positions are places within a number at least 95 % with 20, and 90 % with 30.",
    equal="parameters, but for tables of positions, and core-seconds",
    measure=measure,
    minutes=48,
    least=5,
    seeds=5,
)
