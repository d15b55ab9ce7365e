"""The spread of what is learned over seeds: measured by the commands, and written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import learned_figures


@pytest.mark.slow
def test_figures_of_a_recipe_are_measured_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--seeds", "1", "--steps", "2", "--recipes", "vit-digits", "--results", str(tmp_path)]
    learned_figures.run(learned_figures.parse(words))
    [(recipe, found)] = json.loads((tmp_path / "learned_figures.json").read_text()).items()
    assert (recipe, found["steps"]) == ("vit-digits", 2)
    assert found["provenance"]["versions"]["torch"]
    accuracy = found["figures"]["accuracy"]
    assert accuracy == {"mean": accuracy["seeds"][0], "std": 0, "seeds": accuracy["seeds"]}
    assert accuracy["mean"] * 359 == pytest.approx(round(accuracy["mean"] * 359), rel=1e-4)
    assert "| accuracy" in capsys.readouterr().out


@pytest.mark.slow
def test_what_cartpole_returns_is_measured_for_each_target() -> None:
    pytest.importorskip("stable_baselines3")
    found = learned_figures.cartpole(0, steps=2)
    asked = [name for name in found if name.startswith("return, ")]
    assert asked == [f"return, asked for {target}" for target in (50, 100, 200, 350, 500)]
    assert all(1 <= found[name] <= 500 for name in asked)


def test_a_spread_is_that_of_a_sample() -> None:
    assert learned_figures.spread([1.0, 2.0, 3.0]) == {"mean": 2, "std": 1, "seeds": [1, 2, 3]}
