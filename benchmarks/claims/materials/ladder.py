"""BLEU on Multi30k by the words of the source, of what `benchmarks.translation_ladder` has left; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.claims.common import spread
from benchmarks.claims.picture import Lines
from benchmarks.claims.verdict import LEAST_SEEDS, Condition
from benchmarks.measure.record import RESULTS, table
from benchmarks.translation_ladder import NAME, cells_of
from core.files.json_files import read_json
from text.reports.bleu import LENGTHS

FILE = RESULTS / f"{NAME}.json"
COMMAND = "python -m benchmarks.translation_ladder"
OLD, NEW = "multi30k-lstm", "multi30k-modern"
RUNGS = {
    OLD: "LSTM, one vector",
    "multi30k-bahdanau": "GRU, additive attention",
    "multi30k-luong": "LSTM, dot attention",
    "multi30k": "Transformer of 2017",
    NEW: "Transformer",
}
GROUPS = (*(f"up_to_{most}_words" for most in LENGTHS), f"over_{LENGTHS[-1]}_words")
LEAST_GAIN = 2.0
"""BLEU that attention gains more over one vector where sources are longest than where they are shortest."""


class Ladder(NamedTuple):
    """What a claim adds to its own: nothing but a note where the ladder was not run."""

    panels: list[Lines]
    conditions: list[Condition]
    note: str


def ladder() -> Ladder:
    """The rungs that were run; a condition where both ends of the ladder have enough seeds."""
    kept = read_json(FILE) if FILE.exists() else {"cells": {}}
    found = {preset: bleu for preset in RUNGS if (bleu := by_length(cells_of(kept, preset)))}
    if not found:
        return Ladder([], [], f"BLEU on Multi30k by the length of the source is not measured yet: {COMMAND}.")
    header = [
        "BLEU by words of the source",
        "seeds",
        *(group.replace("_", " ").removesuffix(" words") for group in GROUPS),
    ]
    rows = [[RUNGS[preset], str(len(seeds)), *(spread(values, 1) for values in zip(*seeds, strict=True))]
            for preset, seeds in found.items()]  # fmt: skip
    ends, x = [*LENGTHS, 2 * LENGTHS[-1] - LENGTHS[-2]], f"words of the source, at most (last: over {LENGTHS[-1]})"
    lines = {RUNGS[preset]: seeds for preset, seeds in found.items()}
    panel = Lines("Multi30k, English to German", x, "BLEU", ends, lines)
    about = f"{kept['settings']['minutes']:g} core-minutes each, cased, beams of 5, from {COMMAND}"
    return Ladder([panel], compared(found), f"{table(header, rows)}\n\nTest sentences of Multi30k; {about}.")


def by_length(cells: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Of every seed the BLEU of each group."""
    return [[one["beams"][f"bleu_cased_{group}"] for group in GROUPS] for one in cells]


def compared(found: dict[str, list[list[float]]]) -> list[Condition]:
    """Whether one vector loses more in long sentences than in short ones, seed by seed."""
    pairs = [*zip(found.get(OLD, []), found.get(NEW, []), strict=False)]
    if len(pairs) < LEAST_SEEDS:
        return []
    gains = tuple((new[-1] - old[-1]) - (new[0] - old[0]) for old, new in pairs)
    what = f"BLEU that a Transformer gains over an LSTM: over {LENGTHS[-1]} words less up to {LENGTHS[0]}"
    return [Condition(what, gains, "at least", LEAST_GAIN, 1.0)]
