"""An evaluation reported: tables, figures and pictures."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.files.json_files import read_json
from core.training.answers import Answers, Tally
from vision.reports.errors import Errors
from vision.reports.report import key_figures, tables, write_figures
from vision.tasks.evaluation import Evaluation, variants

FILES = ["calibration.png", "confusion.png", "errors.png", "figures.json", "predictions.csv"]


def evaluated(logits: Tensor, labels: Tensor) -> Evaluation:
    answers = Answers.of(logits, labels)
    pixels = torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8)
    return Evaluation(answers, Tally.of(answers, logits.shape[1]), None, Errors.of(pixels, answers))


def images(count: int) -> list[str]:
    return [f"shots/{place}.png" for place in range(count)]


def test_only_so_many_classes_are_listed() -> None:
    labels = torch.arange(300) % 150
    evaluation = evaluated(torch.nn.functional.one_hot((labels + (labels < 5)) % 150, 150).float(), labels)
    names = [f"class {index}" for index in range(150)]
    summary, by_class, errors = tables(list(variants({"raw": evaluation}, "none")), evaluation, names, images(300))
    assert "96.67 %" in summary
    assert by_class.splitlines()[0].startswith("20 hardest classes")
    listed = [line.split("   ")[0] for line in by_class.splitlines()[1:]]
    assert listed[:6] == [f"class {index}" for index in range(6)]
    assert len(listed) == 20
    assert len(errors.splitlines()) == 11
    assert errors.splitlines()[1].startswith("shots/0.png    class 0 -> class 1")


def test_a_class_without_images_has_no_figure_and_counts_in_no_mean(tmp_path: Path) -> None:
    labels = torch.tensor([0, 0, 1, 1])
    evaluation = evaluated(torch.eye(3)[torch.tensor([0, 1, 1, 1])], labels)
    reported = list(variants({"raw": evaluation}, "none"))
    [_, by_class, *_] = tables(reported, evaluation, "abc", images(4))
    assert by_class.splitlines()[-1].split() == ["c", "-", "-", "-", "0"]
    figures = key_figures("test", reported, "abc")
    assert figures["test/balanced_accuracy"] == 0.75
    assert figures["test/macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert (figures["classes/c/recall"], figures["classes/c/count"]) == (None, 0)


def test_every_prediction_is_written_with_the_name_of_its_image(tmp_path: Path) -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), torch.tensor([0, 1, 1])
    evaluation, names = evaluated(logits, labels), ["a, b.png", "2", "Gr\udcfc\u00df $.png"]  # a byte of Latin-1
    write_figures({}, evaluation, ["yes", "no"], names, tmp_path)
    text = (tmp_path / "predictions.csv").read_bytes().decode(errors="surrogateescape")
    lines = list(csv.reader(io.StringIO(text)))
    assert lines[0] == ["image", "truth", "answer", "probability", "truth_probability"]
    assert [line[:3] for line in lines[1:]] == [
        [name, *words] for name, words in zip(names, (("yes", "yes"), ("no", "no"), ("no", "yes")), strict=True)
    ]
    shares = [[float(share) for share in line[3:]] for line in lines[1:]]
    truth = logits.softmax(1)[torch.arange(3), labels].tolist()
    assert shares == [
        pytest.approx(pair, abs=1e-6) for pair in zip(logits.softmax(1).amax(1).tolist(), truth, strict=True)
    ]
    [error] = read_json(tmp_path / "figures.json")["errors"]
    assert error == {
        "image": names[2],
        "truth": "no",
        "answer": "yes",
        "probability": pytest.approx(shares[2][0], abs=1e-6),
    }


def test_of_very_many_classes_there_is_no_confusion_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = torch.arange(30) * 60
    evaluation, names = evaluated(torch.randn(30, 2000), labels), [str(number) for number in range(2000)]
    write_figures({}, evaluation, names, images(30), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted({*FILES} - {"confusion.png"})
    assert "confusion" not in read_json(tmp_path / "figures.json")
    assert "1,000 classes at most, not 2,000" in capsys.readouterr().err


def test_a_model_that_diverged_has_figures_that_are_null(tmp_path: Path) -> None:
    evaluation = evaluated(torch.full((20, 4), math.nan), torch.arange(20) % 4)
    reported = list(variants({"raw": evaluation}, "none"))
    assert "nan" in tables(reported, evaluation, "abcd", images(20))[0]
    write_figures(key_figures("test", reported, "abcd"), evaluation, "abcd", images(20), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    figures = read_json(tmp_path / "figures.json")
    assert (figures["test/loss"], figures["test/ece"], figures["test/accuracy"]) == (None, None, 0.25)
    of_b = [figures[f"classes/b/{key}"] for key in ("precision", "recall", "f1", "count")]
    assert of_b == [None, 0.0, 0.0, 5]
    assert (figures["class_names"], sum(map(sum, figures["confusion"]))) == (list("abcd"), 20)
    assert {error["probability"] for error in figures["errors"]} == {None}
