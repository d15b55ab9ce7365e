"""The figures of adapters and instructions, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import after_training
from core.files.json_files import read_json


@pytest.mark.slow
def test_a_part_is_measured_once_and_saved(tmp_path: Path) -> None:
    words = [
        "--parts",
        "memory",
        "--tiny",
        "--steps",
        "1",
        "--runs",
        str(tmp_path / "runs"),
        "--results",
        str(tmp_path),
    ]
    after_training.run(after_training.parse(words))
    saved = read_json(tmp_path / "after_training.json")["memory"]
    assert saved["seeds"]["0"]["peak_gb"] > 0.1
    assert 0 < saved["seeds"]["0"]["parameters"] < 1
    again = after_training.memory(after_training.parse(words), seed=0)
    assert again["core_seconds"] == 0  # what is finished is not trained again


def test_every_seed_has_a_column() -> None:
    assert after_training.over_seeds([{"loss": 1.0}, {"loss": 2.0}]) == {"loss": [1.0, 2.0]}
    assert "seed 1" in after_training.shown([{"loss": 1.0}, {"loss": 2.0}])


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match="parts = 'dora' is not one of: lora, skills, preferences, memory"):
        after_training.parse(["--parts", "dora"])
