"""Rows of JSON lines, CSV and Parquet files: the same texts from each, and what is wrong named by file and row."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from text.corpus.documents import BadText, Document, Reading
from text.corpus.stream import texts
from text.corpus.tables import Row, columns, records, rows

TEXTS = ["one\n", "", 'two, "quoted"\r\nover lines', "漢字 👋"]
HEADER = ["id", "text", "note"]


def jsonl(file: Path, contents: Sequence[str] = TEXTS) -> Path:
    lines = [json.dumps({"id": n, "text": text, "note": "no"}, ensure_ascii=False) for n, text in enumerate(contents)]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def separated(file: Path, contents: Sequence[str] = TEXTS, mark: str = "") -> Path:
    with file.open("w", encoding="utf-8", newline="") as out:
        out.write(mark)
        writer = csv.writer(out, delimiter="\t" if file.suffix == ".tsv" else ",")
        writer.writerows([HEADER, *([n, text, "no"] for n, text in enumerate(contents))])
    return file


def parquet(file: Path, contents: Sequence[str | None] = TEXTS) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow.parquet import write_table

    columns = {"id": range(len(contents)), "text": contents, "note": ["no"] * len(contents)}
    write_table(pyarrow.table({name: pyarrow.array(column) for name, column in columns.items()}), file)
    return file


def compressed(file: Path) -> Path:
    packed = file.with_name(f"{file.name}.gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    return packed


def read(file: Path, column: str = "") -> list[str | BadText]:
    return list(rows(Document(str(file), file), column))


MAKERS: dict[str, Callable[[Path], Path]] = {
    "a.jsonl": jsonl,
    "a.JSONL": jsonl,
    "a.csv": separated,
    "a.tsv": separated,
    "a.parquet": parquet,
    "marked.csv": lambda file: separated(file, mark="\ufeff"),
    "packed.jsonl": lambda file: compressed(jsonl(file)),
    "packed.csv": lambda file: compressed(separated(file)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_kind_of_table_gives_the_texts_of_its_column(name: str, tmp_path: Path) -> None:
    file = MAKERS[name](tmp_path / name)
    assert read(file) == [text for text in TEXTS if text]
    assert read(file, "note") == ["no"] * 4
    with pytest.raises(BadText, match=r"'titel'.* note"):
        list(texts([Document(name, file)], None, Reading("titel")))


def test_without_a_column_named_text_it_has_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"title": "a", "body": "b"}\n', encoding="utf-8")
    with pytest.raises(
        BadText, match=r"line 1 of .*a\.jsonl has no text column 'text': it has title, body \(--column\)"
    ):
        read(tmp_path / "a.jsonl")
    assert read(tmp_path / "a.jsonl", "body") == ["b"]
    (tmp_path / "only.jsonl").write_text('{"n": 1, "body": "b"}\n"c"\n\n', encoding="utf-8")
    assert read(tmp_path / "only.jsonl") == ["b", "c"]
    (tmp_path / "semicolons.csv").write_text("n;body\n1;b\n", encoding="utf-8")
    assert read(tmp_path / "semicolons.csv", "body") == ["b"]


BAD = {
    "json": ("a.jsonl", b'{"text": "one"}\n{"text": "two\n{"text": "three"}\n', "line 2 of", "is not JSON"),
    "column": ("a.jsonl", b'{"text": "one"}\n{"texd": "two"}\n{"text": "three"}', "line 2 of", "has no 'text'"),
    "number": ("a.jsonl", b'{"text": "one"}\n{"text": 2}\n{"text": "three"}', "line 2 of", "has no text but 2"),
    "bytes": ("a.jsonl", b'{"text": "one"}\n{"text": "\xff"}\n{"text": "three"}', "line 2 of", "is not JSON"),
    "half a character": ("a.jsonl", b'{"text": "one"}\n"\\ud800"\n{"text": "three"}', "line 2 of", "is not UTF-8"),
    "fields": ("a.csv", b"n,text\n1,one\n2,two,3\n3,three\n", "line 3 of", "has not 2 fields but 3"),
    "csv bytes": ("a.csv", b"n,text\n1,one\n2,\xff\n3,three\n", "line 3 of", "is not UTF-8"),
    "quotes": ("a.csv", b'n,text\n1,one\n2,"a"b\n3,three\n', "line 3 of", "is not a row"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named_or_left_out(case: str, tmp_path: Path) -> None:
    name, content, place, problem = BAD[case]
    (tmp_path / name).write_bytes(content)
    first, bad, third = read(tmp_path / name)
    assert (first, third) == ("one", "three")
    assert isinstance(bad, BadText)
    assert str(bad).startswith(f"{place} {tmp_path / name} {problem}")
    assert "--skip-bad" in str(bad)
    documents = [Document(name, tmp_path / name)]
    with pytest.raises(BadText, match=problem):
        list(texts(documents, None))
    assert list(texts(documents, None, Reading(bad="skip"))) == ["one", None, "three"]


def test_rows_of_nothing_are_left_out(tmp_path: Path) -> None:
    assert read(parquet(tmp_path / "a.parquet", ["one", None, "", "two"])) == ["one", "two"]


@pytest.mark.parametrize("name", ["a.parquet", "a.txt.gz", "a.jsonl.gz"])
def test_a_damaged_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"one two three" * 999)[:-9] if name.endswith(".gz") else b"PAR1 no")
    document = [Document(str(tmp_path / name), tmp_path / name)]
    with pytest.raises(BadText, match=name):
        list(texts(document, None))
    assert list(texts(document, None, Reading(bad="skip"))) == []


@pytest.mark.parametrize("name", MAKERS)
def test_several_columns_of_each_kind_of_table(name: str, tmp_path: Path) -> None:
    file = MAKERS[name](tmp_path / name)
    document = Document(str(file), file)
    texts = ["id", "text", "note"] if document.table in (".csv", ".tsv") else ["text", "note"]
    assert columns(document) == (["id", "text", "note"], texts)
    if document.table != ".tsv":  # there a text over several lines is several rows
        found = [row.cells if isinstance(row, Row) else str(row) for row in records(document, ["text", "id"])]
        assert found == [(text, str(number)) for number, text in enumerate(TEXTS)]


def test_cells_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    values = [1, 2.5, True, None, "x", ["y"], "\ud800"]
    file.write_text("\n".join([*(json.dumps({"a": "text", "b": value}) for value in values), '"alone"', '{"a": ""}']))
    found = [row.cells[1] if isinstance(row, Row) else str(row) for row in records(Document("T", file), ["a", "b"])]
    assert found[:5] == ["1", "2.5", "true", "", "x"]
    assert [sentence.partition(";")[0] for sentence in found[5:]] == [
        "line 6 of T has no text but ['y']",
        "line 7 of T is not UTF-8 text",
        "line 8 of T is no object with columns but 'alone'",
        "line 9 of T has no 'b' but a",
    ]


def test_quotation_marks_are_letters_in_a_tsv(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text('a\tb\n"open\t1\nin "the" middle\t"all"\n')
    found = [row.cells for row in records(Document("T", file), ["a", "b"]) if isinstance(row, Row)]
    assert found == [('"open', "1"), ('in "the" middle', '"all"')]
