"""Texts with labels: the same from every kind of table, classes in order, parts that hold every class."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from text.examples.labelled import load_labelled, ordered, read_labelled

TEXTS = ["good", 'a "fine" film', "bad", "two\tparts", "漢字"]
LABELS = ["pos", "pos", "neg", "neg", "pos"]
Cells = list[list[str]]
ROWS: Cells = [list(row) for row in zip(TEXTS, LABELS, strict=True)]


def jsonl(file: Path, rows: Cells, names: Sequence[str] = ("text", "label")) -> Path:
    file.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    return file


def separated(file: Path, rows: Cells, names: Sequence[str] = ("text", "label")) -> Path:
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([names, *rows])
    return file


def tsv(file: Path, rows: Cells, names: Sequence[str] = ("text", "label")) -> Path:
    lines = ["\t".join(cell.replace("\t", " ") for cell in row) for row in [[*names], *rows]]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


KINDS: dict[str, Callable[[Path, Cells, Sequence[str]], Path]] = {"jsonl": jsonl, "csv": separated, "tsv": tsv}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", [("text", "label"), ("sentence", "label"), ("review", "label"), ("review", "stars")])
def test_every_kind_of_table_gives_the_same(kind: str, names: tuple[str, str], tmp_path: Path) -> None:
    rows = [["7", *row] for row in ROWS]
    file = KINDS[kind](tmp_path / f"a.{kind}", rows, ["id", *names])
    if names[0] == "review":  # one of two columns of text
        with pytest.raises(ValueError, match="has no column '(text|label)': it has id, review, (label|stars)"):
            read_labelled(str(file), ["neg", "pos"])
    texts = read_labelled(str(file), ["neg", "pos"], column=names[0], label_column=names[1])
    assert texts.texts == [text.replace("\t", " ") if kind == "tsv" else text for text in TEXTS]
    assert texts.labels == [1, 1, 0, 0, 1]
    only = KINDS[kind](tmp_path / f"b.{kind}", ROWS, [names[0], "label"])
    assert read_labelled(str(only), ["neg", "pos"]).labels == [1, 1, 0, 0, 1]


def test_labels_of_other_types(tmp_path: Path) -> None:
    values = [3, 0, 10, 3, True]
    rows = [json.dumps({"text": f"text {number}", "label": value}) for number, value in enumerate(values)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    assert read_labelled(str(tmp_path / "a.jsonl"), ["0", "3", "10", "true"]).labels == [1, 0, 2, 1, 3]
    assert ordered(["10", "9", "-1", "9"]) == ("-1", "9", "10")
    assert ordered(["10", "9", "x"]) == ("10", "9", "x")


def test_two_texts_in_a_row(tmp_path: Path) -> None:
    rows = [[f"premise {number}", f"conclusion {number}", "yn"[number % 2]] for number in range(20)]
    file = separated(tmp_path / "a.csv", rows, ["text", "other", "label"])
    data = load_labelled(str(file), second_column="other")
    assert data.paired
    assert [text[-1] for text in data.train.texts] == [second[-1] for second in data.train.seconds]
    assert not load_labelled(str(file)).paired
    with pytest.raises(ValueError, match="cannot have the column 'text' as two things at once"):
        load_labelled(str(file), second_column="text", column="text")


def test_every_class_is_held_out_in_proportion(tmp_path: Path) -> None:
    rows = [[f"text {number}", "a" if number < 60 else "b" if number < 99 else "once"] for number in range(100)]
    files = [str(tsv(tmp_path / "a.tsv", rows[:50])), str(tsv(tmp_path / "b.tsv", rows[50:]))]
    data = load_labelled(files, validation=0.2)
    assert data.classes == ("a", "b", "once")
    assert Counter(data.validation.labels) == {0: 12, 1: 8}
    assert Counter(data.train.labels) == {0: 48, 1: 31, 2: 1}
    assert {*data.train.texts} | {*data.validation.texts} == {row[0] for row in rows}
    again = load_labelled(files, validation=0.2)
    assert again.validation.texts == data.validation.texts
    assert again.fingerprint == data.fingerprint
    rows[3][1] = "b"
    changed = load_labelled([str(tsv(tmp_path / "a.tsv", rows[:50])), files[1]], validation=0.2)
    assert changed.fingerprint != data.fingerprint


def test_a_label_that_training_lacks_names_its_row(tmp_path: Path) -> None:
    train, held_out = tsv(tmp_path / "a.tsv", ROWS), tsv(tmp_path / "b.tsv", [*ROWS[:2], ["odd", "neutral"]])
    with pytest.raises(ValueError, match=f"line 4 of {held_out} has the label 'neutral', .*: known are neg, pos"):
        load_labelled(str(train), validation_data=str(held_out))
    with pytest.raises(ValueError, match="has the label 'pos' only: there must be two or more"):
        load_labelled(str(tsv(tmp_path / "c.tsv", ROWS[:2] * 3)))


def test_rows_that_cannot_be_used(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tsv(tmp_path / "a.tsv", [*ROWS, [" ", "pos"], ["no label", ""], *ROWS])
    with pytest.raises(ValueError, match=f"line 7 of {file} has an empty text; --skip-bad leaves such rows out"):
        load_labelled(str(file))
    data = load_labelled(str(file), bad="skip")
    assert len(data.train) + len(data.validation) == 10
    said = capfd.readouterr().err
    assert f"left out, because it has an empty text: 1 (first line 7 of {file})" in said
    assert f"left out, because it has no label: 1 (first line 8 of {file})" in said
    assert "1 of the 1 validation rows are in the training part too" in said


@pytest.mark.parametrize(
    ("data", "settings", "reason"),
    [
        ("sst", {}, "did you mean 'sst2'?"),
        ("sst2", {"column": "text"}, "the text column 'text' has no effect: sst2 has its own columns"),
        ("nothing.csv", {}, "accepted are sst2, sst2:phrases, and tables"),
    ],
)
def test_data_that_there_is_not(data: str, settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load_labelled(data, **settings)  # type: ignore[arg-type]


def test_plain_text_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text\n")
    with pytest.raises(ValueError, match="a.txt' is no table; accepted are"):
        load_labelled(str(tmp_path / "a.txt"))


@pytest.mark.parametrize(("name", "rows", "positive"), [("sst2", 6920, 3610), ("sst2:phrases", 67_349, 37_569)])
def test_sst2(name: str, rows: int, positive: int, data_root: Path) -> None:
    data = load_labelled(name, root=data_root)
    assert data.classes == ("negative", "positive")
    assert (len(data.train), sum(data.train.labels)) == (rows, positive)
    assert (len(data.validation), sum(data.validation.labels)) == (872, 444)
    assert (len(data.tests["test"]), sum(data.tests["test"].labels)) == (1821, 909)
    assert {*map(str.strip, data.train.texts)} == {*data.train.texts}
