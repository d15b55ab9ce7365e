"""The ladder of translators: its table, and what it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.translation_ladder import LADDER, measure, parse, shown


def record(minutes: float = 6.0) -> dict[str, object]:
    def cell(bleu: float) -> dict[str, object]:
        figures = {"step": 9, "bleu_cased": bleu - 1, "bleu_lower_cased": bleu, "bleu_cased_1-10": bleu + 2}
        return {"greedy": figures | {"bleu_lower_cased": bleu - 3}, "beams": figures}

    cells = {f"{preset}, seed {seed}": cell(10.0 + seed) for preset in LADDER for seed in (0, 1)}
    return {"settings": {"minutes": minutes, "train_options": ""}, "cells": cells}


def test_the_table_has_means_and_deviations_over_the_seeds() -> None:
    lines = [" ".join(line.split()) for line in shown(record(), LADDER).splitlines()]
    assert "| multi30k-lstm | 9, 9 | 10.5 ± 0.7 | 9.5 ± 0.7 | 7.5 ± 0.7 |" in lines
    assert "| multi30k | 12.5 ± 0.7 |" in lines


def test_finished_cells_are_kept_and_other_settings_refused(tmp_path: Path) -> None:
    (tmp_path / "translation_ladder.json").write_text(json.dumps(record()))
    words = ["--results", str(tmp_path), "--seeds", "0,1"]
    assert measure(parse(words)) == record()
    with pytest.raises(ValueError, match="cells of other settings"):
        measure(parse([*words, "--minutes", "7"]))
