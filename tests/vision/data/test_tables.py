"""Images with their classes in a table, beside a flat folder or in a data set of the `datasets` library."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tests.vision.conftest import picture
from tests.vision.data.loading import Load
from vision.data.load import load_part

Row = tuple[str, ...]


@pytest.fixture
def flat(tmp_path: Path) -> Callable[..., Path]:
    """flat(rows, header, ...): a folder of pictures 00.png to 19.png, even ones apples, and a table beside it."""

    def make(
        rows: Sequence[Row] | None = None,
        header: Row = ("file_name", "label"),
        images: str = ".",
        table: str = "labels.csv",
    ) -> Path:
        root = tmp_path / "flat"
        (root / images).mkdir(parents=True, exist_ok=True)
        for number in range(20):
            name = "leaves" if number % 2 else "apples"
            picture(name, number, "flat").save(root / images / f"{number:02d}.png")
        with (root / table).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t" if table.endswith(".tsv") else ",").writerows(
                [header, *(ROWS if rows is None else rows)] if header else ROWS
            )
        return root

    return make


ROWS = [(f"{number:02d}.png", "leaves" if number % 2 else "apples") for number in range(20)]
IDS = [(file.removesuffix(".png"), name) for file, name in ROWS]
PARTS = [("train",) * 2] * 14 + [("val",)] * 4 + [("test",)] * 2


@pytest.mark.parametrize(
    ("rows", "header", "images", "table"),
    [
        (ROWS, ("file_name", "label"), ".", "labels.csv"),
        (ROWS, ("Filename", "Class"), "images", "labels.csv"),
        (IDS, ("id", "breed"), "train", "labels.csv"),
        (ROWS, ("image", "category"), ".", "labels.tsv"),
        (ROWS, ("file_name", "label"), ".", "metadata.csv"),
        (ROWS, (), ".", "labels.csv"),
        ([(f"images/{file}", name) for file, name in ROWS], ("path", "target"), "images", "labels.csv"),
    ],
)
def test_classes_come_from_a_table(
    rows: Sequence[Row], header: Row, images: str, table: str, flat: Callable[..., Path], load: Load
) -> None:
    data = load(flat(rows, header, images, table), validation=4)
    assert data.preparation.classes == ("apples", "leaves")
    assert torch.bincount(data.train.labels).tolist() == [8, 8]
    assert torch.bincount(data.validation.labels).tolist() == [2, 2]


def test_a_table_may_be_named_itself(flat: Callable[..., Path], load: Load) -> None:
    root = flat(table="mine.csv")
    assert len(load(root / "mine.csv", validation=0).train) == 20
    with pytest.raises(ValueError, match="00.png is a file: a folder of images is needed, or a table"):
        load(root / "00.png")


def test_a_column_names_the_parts(flat: Callable[..., Path], load: Load, tmp_path: Path) -> None:
    parts = ["train"] * 14 + ["val"] * 4 + ["Testing"] * 2
    root = flat([(*row, part) for row, part in zip(ROWS, parts, strict=True)], ("file", "label", "split"))
    data = load(root)
    assert (len(data.train), len(data.validation)) == (14, 4)
    assert load_part(str(root), "test", data.preparation, root=tmp_path / "data").labels.tolist() == [0, 1]
    flat([(*row, "fold 3") for row in ROWS], ("file", "label", "split"))
    with pytest.raises(ValueError, match="part 'fold 3' of 00.png: train, val and test are known"):
        load(root)


def test_numbers_are_classes_in_their_order(flat: Callable[..., Path], load: Load) -> None:
    root = flat([(file, str(int(file[:2]) % 11)) for file, _ in ROWS])
    assert load(root, validation=0).preparation.classes == tuple(map(str, range(11)))


def test_what_table_and_folder_do_not_share_is_told(
    flat: Callable[..., Path], load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    root = flat([*ROWS[:18], ("lost.png", "apples")])
    with pytest.raises(ValueError, match=r"labels\.csv names lost\.png, which is not below .*--skip-bad"):
        load(root)
    assert len(load(root, skip_bad=True, validation=0).train) == 18
    err = capsys.readouterr().err
    assert "images without a row in labels.csv (2)" in err
    assert "lost.png" in err


@pytest.mark.parametrize(
    ("rows", "header", "sentence"),
    [
        (ROWS, ("file_name", "height"), "labels.csv has the columns file_name, height: one of file_name, "),
        ([("a.png",)], ("file_name", "label"), "labels.csv has 1 cells in row 2, not 2"),
        ([*ROWS, ("00.png", "leaves")], ("file_name", "label"), "two classes for 00.png: apples and leaves"),
        ([(file, "one") for file, _ in ROWS], ("file_name", "label"), "one class only, 'one'"),
        ([], ("file_name", "label"), "names no images to train on"),
    ],
)
def test_tables_that_are_refused(
    rows: Sequence[Row], header: Row, sentence: str, flat: Callable[..., Path], load: Load
) -> None:
    with pytest.raises(ValueError, match=sentence):
        load(flat(rows, header))


def test_class_folders_go_before_a_table(flat: Callable[..., Path], load: Load) -> None:
    root = flat()
    for name in ("skies", "stones"):
        (root / name).mkdir()
        for number in range(3):
            picture(name, number).save(root / name / f"{number}.png")
    assert load(root).preparation.classes == ("skies", "stones")


def test_a_data_set_of_the_hub_is_read_once(tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "photo": datasets.Image(),
            "kind": datasets.ClassLabel(names=["leaf/green", "apple"]),
            "size": datasets.Value("int64"),
        }
    )
    splits = {
        split: datasets.Dataset.from_dict(
            {
                "photo": [picture("leaves", number, split) for number in range(count)],
                "kind": [-1 if split == "test" else number % 2 for number in range(count)],
                "size": list(range(count)),
            },
            features=features,
        )
        for split, count in (("train", 8), ("validation", 4), ("test", 2), ("unlabelled", 3))
    }
    calls = []

    def load_dataset(*arguments: object) -> object:
        calls.append(arguments)
        return datasets.DatasetDict(splits)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)  # which needs the network
    data = load("hf:some/photos:small")
    assert calls == [("some/photos", "small")]
    assert data.preparation.classes == ("apple", "leaf/green")
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4
    assert len(data.validation) == 4
    assert torch.equal(load("hf:some/photos:small").train.labels, data.train.labels)
    assert len(calls) == 1


def test_a_data_set_that_cannot_be_loaded_is_an_error_of_one_sentence(load: Load, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(ValueError, match="^hf:.*nothing cannot be loaded as hf:NAME"):
        load(f"hf:{tmp_path}/nothing")
