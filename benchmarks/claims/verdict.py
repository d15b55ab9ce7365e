"""Whether a claim held: conditions on a mean over seeds, each with a t-test, and what follows from all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, Literal

from core.checks import check_choices, check_positive

Word = Literal["held", "did not hold", "not shown"]
LEVEL = 0.05
LEAST_SEEDS = 3


@dataclass(frozen=True)
class Condition:
    """That something measured once for each seed is, on average, at least or at most a bar named beforehand."""

    what: str
    values: tuple[float, ...]
    side: Literal["at least", "at most"]
    bar: float
    noise: float
    """By how much one value varies from measuring alone, its standard deviation: seeds never count as closer."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "noise")
        if not self.values or not all(math.isfinite(value) for value in self.values):
            raise ValueError(f"values = {self.values!r} of {self.what!r} must be numbers, at least one")

    @property
    def t(self) -> float:
        """Student's statistic of the mean against the bar: positive where the condition is met."""
        spread = max(self.noise, stdev(self.values) if len(self.values) > 1 else 0.0)
        t = (mean(self.values) - self.bar) / (spread / math.sqrt(len(self.values)))
        return t if self.side == "at least" else -t

    @property
    def p(self) -> float:
        """How probable so large a t is where the true mean is the bar, one-sided; 1 - p says the same of so small."""
        from scipy.stats import t

        return float(t.sf(self.t, len(self.values) - 1)) if len(self.values) > 1 else 0.5

    def as_dict(self) -> dict[str, Any]:
        tested = {"mean": mean(self.values), "t": self.t, "p": self.p}
        return {"what": self.what, "side": self.side, "bar": self.bar, **tested, "values": list(self.values)}


def share_noise(tested: int, share: float = 0.5) -> float:
    """By how much a share of so many independent answers varies; at most, unless the true share is given."""
    return math.sqrt(share * (1 - share) / tested)


@dataclass(frozen=True)
class Verdict:
    """What follows, and why."""

    word: Word
    because: str


def judge(conditions: Sequence[Condition], minutes: float, least: float, missing: str = "") -> Verdict:
    """Held where every condition is met at p < 0.05; did not hold where one is missed, at 0.05 / how many there are.

    minutes, least: core-minutes that were given, and those below which nothing can be concluded
    missing: the command that has to be run before there is anything to judge
    """
    if missing:
        return Verdict("not shown", f"nothing to judge yet; run {missing}")
    seeds = min(len(condition.values) for condition in conditions)
    if minutes < least:
        return Verdict("not shown", f"{minutes:g} core-minutes are too few: a verdict needs {least:g}")
    if seeds < LEAST_SEEDS:
        return Verdict("not shown", f"seeds: {seeds}; a verdict needs {LEAST_SEEDS}")
    missed = [one for one in conditions if 1 - one.p < LEVEL / len(conditions)]
    if missed:
        return Verdict("did not hold", "; ".join(f"{one.what} was not {one.side} {one.bar:g}" for one in missed))
    open_ones = [one for one in conditions if one.p >= LEVEL]
    if open_ones:
        return Verdict("not shown", "; ".join(f"{one.what}: p = {one.p:.2g}" for one in open_ones))
    return Verdict("held", f"every p is below {LEVEL:g}, the largest {max(one.p for one in conditions):.2g}")
