"""An evaluation reported: tables, figures and pictures."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from core.files.json_files import read_json
from vision.reports.metrics import Errors, Tally
from vision.reports.report import key_figures, tables, write_figures
from vision.tasks.evaluation import Evaluation, Variant, variants


def test_only_so_many_classes_are_listed() -> None:
    labels = torch.arange(300) % 150
    tally = Tally.of(torch.nn.functional.one_hot((labels + (labels < 5)) % 150, 150).float(), labels)
    names = [f"class {index}" for index in range(150)]
    summary, by_class = tables([Variant("raw weights", "", tally)], names)
    assert "96.67 %" in summary
    assert by_class.splitlines()[0].startswith("20 hardest classes")
    listed = [line.split("   ")[0] for line in by_class.splitlines()[1:]]
    assert listed[:6] == [f"class {index}" for index in range(6)]
    assert len(listed) == 20


def test_a_model_that_diverged_has_figures_that_are_null(tmp_path: Path) -> None:
    labels, logits = torch.arange(20) % 4, torch.full((20, 4), math.nan)
    pixels = torch.zeros(20, 1, 8, 8, dtype=torch.uint8)
    evaluation = Evaluation(Tally.of(logits, labels), None, Errors.of(pixels, logits, labels))
    reported = list(variants({"raw": evaluation}, "none"))
    assert "nan" in tables(reported, "abcd")[0]
    write_figures(key_figures("test", reported, "abcd"), evaluation, "abcd", tmp_path)
    names = ["calibration.png", "confusion.png", "errors.png", "figures.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    figures = read_json(tmp_path / "figures.json")
    assert (figures["test/loss"], figures["test/ece"], figures["test/accuracy"]) == (None, None, 0.25)
    of_b = [figures[f"classes/b/{key}"] for key in ("precision", "recall", "f1", "count")]
    assert of_b == [None, 0.0, 0.0, 5]
    assert (figures["class_names"], sum(map(sum, figures["confusion"]))) == (list("abcd"), 20)
