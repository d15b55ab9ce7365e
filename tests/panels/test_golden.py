"""The losses of short runs with fixed seeds, as they were when they were recorded.

A change of these numbers is a change of the mathematics: of the model, its initial weights, the order of data and how
it is varied, the optimiser or the schedule. The tolerance is for processors that round sums in another order: moving a
weight by 1e-7 moves these losses by less than 1e-5.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from core.training.metrics import read_metrics
from tests.panels import golden_decision, golden_text, golden_vision

PANELS = {"text": golden_text, "vision": golden_vision, "decision": golden_decision}


@pytest.mark.parametrize("recipe", [f"{panel}/{name}" for panel, module in PANELS.items() for name in module.RECIPES])
def test_the_losses_are_those_on_record(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path / "cache"))
    panel, _, name = recipe.partition("/")
    config, figures = PANELS[panel].run(name, tmp_path)
    _, losses, last = PANELS[panel].RECIPES[name]
    measured = [line["train/loss"] for line in read_metrics(config.out) if "train/loss" in line]
    assert measured == pytest.approx(losses, abs=2e-4, rel=2e-5)
    assert {metric: figures[metric] for metric in last} == pytest.approx(last, abs=2e-4)
