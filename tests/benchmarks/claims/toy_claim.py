"""A claim about seeds alone, for tests of what surrounds a claim; `interrupted` stops its second measurement once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.claims.common import Claim, Finding, Lab
from benchmarks.claims.picture import Bars, Cells, Lines
from benchmarks.claims.verdict import Condition

measured: list[int] = []
interrupted: list[int] = []


def number(seed: int) -> float:
    if seed in interrupted:
        interrupted.remove(seed)
        raise KeyboardInterrupt
    measured.append(seed)
    return 1.0 + seed / 100


def predict(lab: Lab) -> dict[str, Any]:
    return {"number": lab.cell("prediction", lambda: 1.01)}


def tested(lab: Lab) -> Finding:
    found = measure(lab)
    said = lab.predicted.get("number", 0.0)
    return replace(found, notes=[f"{said} predicted. {lab.foretold}"])


def lacking(lab: Lab) -> Finding:
    return Finding(["what"], [["not run"]], [Bars("nothing", "", {})], [], missing="python -m something.else")


def measure(lab: Lab) -> Finding:
    found = lab.each_seed("number", number)
    panels = [Lines("lines", "x", "y", [1, 2], {"a": [[1.0, 2.0], [2.0, 3.0]], "b": [[1.0, None]]}),
              Cells("cells", "x", "y", [[0.0, 1.0]], ["row"], ["a", "b"])]  # fmt: skip
    rows = [["mean", f"{sum(found) / len(found):.3f}"]]
    return Finding(["what", "value"], rows, panels, [Condition("numbers", tuple(found), "at least", 0.5, 0.01)])


CLAIM = Claim("Seeds are numbers.", "Their mean is at least 0.5.", "nothing", measure, minutes=2, least=1)
PREDICTED = Claim("Numbers are known.", "They are.", "nothing", tested, minutes=2, least=1, predict=predict)
LACKING = Claim("Others ran.", "They did.", "nothing", lacking, minutes=2, least=1)
MISSING = Claim("Data is there.", "It is.", "nothing", measure, minutes=1, least=1, needs=("no/such.file",))
