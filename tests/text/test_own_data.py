"""`text.train` on what people bring, and resumed wherever that has gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.files.json_files import read_json
from core.training.metrics import read_metrics
from tests.processes import Command
from tests.text.processes import TINY, prose

FEW = (*TINY, "--steps", 2, "--save-every", 1)


@pytest.fixture
def texts(place: Path) -> Path:
    """A folder with a text, a table and a text to hold out."""
    folder = place / "own"
    folder.mkdir(exist_ok=True)
    (folder / "a.txt").write_text(prose(100), encoding="utf-8")
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"body": prose(n)}) for n in range(9)), encoding="utf-8")
    return folder


def trained(command: Command, *arguments: object) -> str:
    code, _, err = command("train", *arguments)
    assert code == 0, err
    return "\n".join(err)


def test_several_paths_a_column_and_a_text_held_out(command: Command, texts: Path, place: Path) -> None:
    (place / "held out.txt").write_text(prose(50), encoding="utf-8")
    data = ("--data", texts / "a.txt", texts / "rows.jsonl", "--column", "body")
    said = trained(command, *FEW, *data, "--validation-data", place / "held out.txt", "--out", place / "several")
    assert f"{len(prose(50)):,} held out" in said
    config = read_json(place / "several" / "config.json")["config"]
    assert config["data"] == [str(texts / "a.txt"), str(texts / "rows.jsonl")]
    code, out, _ = command("evaluate", place / "several")
    assert code == 0
    assert f"{len(prose(50)):,} held-out tokens" in out


def test_a_run_goes_on_from_elsewhere_and_where_its_text_has_moved(
    command: Command, texts: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = place / "moved run"
    monkeypatch.chdir(texts)
    trained(command, *FEW, "--data", "a.txt", "--out", out)
    monkeypatch.chdir(place)
    trained(command, "--out", out, "--resume", "--steps", 3)
    moved = (texts / "a.txt").rename(place / "b.txt")
    code, _, [line] = command("train", "--out", out, "--resume", "--steps", 4)
    assert code == 2
    assert str(texts / "a.txt") in line
    trained(command, "--out", out, "--resume", "--steps", 4, "--data", moved, "--eval-batch", 3)
    assert read_metrics(out)[-1]["step"] == 4
    assert read_json(out / "config.json")["config"]["data"] == str(moved)


def test_a_run_inside_its_data_folder_is_no_data(command: Command, texts: Path) -> None:
    arguments = ("--data", texts, "--out", texts / "run", "--sample", 5)
    trained(command, *FEW, *arguments)
    assert list((texts / "run" / "samples").glob("*.txt"))
    trained(command, "--out", texts / "run", "--resume", "--steps", 3)


def test_a_budget_of_epochs(command: Command, texts: Path, place: Path) -> None:
    out, words = place / "epochs", [word for word in FEW if word not in ("--steps", 2)]
    trained(command, *words, "--data", texts / "a.txt", "--epochs", 2, "--out", out)
    train = int(0.9 * len(prose(100)))
    assert read_metrics(out)[-1]["step"] == pytest.approx(2 * train / 16 / 4, abs=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", ""), "--data: '' is empty"),
        (("--data", "{texts}/a.txt", ""), "--data: '' is empty"),
        (("--data", "{texts}/a.txt", "--column", "body"), "column = 'body' has no effect"),
        (("--data", "{texts}/rows.jsonl", "--column", "title"), "has no text column 'title': it has body"),
        (("--data", "{texts}/a.txt", "--validation-data", "pydoc", "--validation", 0.2), "--validation has no effect"),
        (("--data", "{texts}/a.txt", "--validation-data", "no.txt"), "'no.txt' is neither a file nor"),
    ],
)
def test_a_mistake_about_data_is_one_line(
    command: Command, texts: Path, place: Path, arguments: tuple[object, ...], message: str
) -> None:
    words = (str(word).format(texts=texts) for word in arguments)
    code, _, err = command("train", *FEW, *words, "--out", place / "never")
    assert code == 2
    [line] = err
    assert message in line
    assert not (place / "never").exists()
