"""Pairs of texts: the same from every kind of file, each refused by file and line, never out of step."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from text.examples.pairs import load_pairs, read_pairs

SOURCE = ["A house.", 'He said "no".', "one\u2028line\x0b\x85 still", "漢字", 'a "quoted" start']
TARGET = ["Ein Haus.", "„Nein“, sagte er.", "eine Zeile\x1c", '"Zeichen"', "am Anfang"]


def parallel(folder: Path, ends: str = "en de", line_end: str = "\n", mark: str = "", last: str = "\n") -> list[str]:
    paths = [folder / f"own.{end}" for end in ends.split()]
    for path, texts in zip(paths, (SOURCE, TARGET), strict=True):
        path.write_bytes((mark + line_end.join(texts) + last).encode())
    return [*map(str, paths)]


def packed(folder: Path) -> list[str]:
    paths = parallel(folder)
    for path in paths:
        Path(f"{path}.gz").write_bytes(gzip.compress(Path(path).read_bytes()))
    return [f"{path}.gz" for path in paths]


def tsv(folder: Path, *heading: str) -> str:
    rows = [*([heading] if heading else []), *zip(SOURCE, TARGET, strict=True)]
    (folder / "own.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
    return str(folder / "own.tsv")


def csv(folder: Path, heading: str, before: str = "") -> str:
    rows = [heading, *(f'{before}"{a.replace(QUOTE, QUOTE * 2)}","{b.replace(QUOTE, QUOTE * 2)}"' for a, b in ROWS)]
    (folder / "own.csv").write_text("\n".join(rows), encoding="utf-8", newline="")
    return str(folder / "own.csv")


def jsonl(folder: Path) -> str:
    rows = [json.dumps({"id": 1, "source": a, "target": b}) for a, b in ROWS]
    (folder / "own.jsonl").write_text("\n".join(rows))
    return str(folder / "own.jsonl")


QUOTE = '"'
ROWS = [*zip(SOURCE, TARGET, strict=True)]
KINDS: dict[str, Callable[[Path], tuple[str | Sequence[str], str, str]]] = {
    "parallel": lambda folder: (parallel(folder), "", ""),
    "parallel, the other way round": lambda folder: (parallel(folder)[::-1], "en", ""),
    "parallel, by the target": lambda folder: (parallel(folder)[::-1], "", "de"),
    "parallel without languages": lambda folder: (parallel(folder, "a.txt b.txt"), "", ""),
    "CRLF": lambda folder: (parallel(folder, line_end="\r\n", last="\r\n"), "", ""),
    "marked, without a last line end": lambda folder: (parallel(folder, mark="\ufeff", last=""), "", ""),
    "compressed": lambda folder: (packed(folder), "en", "de"),
    "tsv": lambda folder: (tsv(folder), "", ""),
    "tsv by number": lambda folder: (tsv(folder), "1", "2"),
    "tsv with a heading": lambda folder: (tsv(folder, "en", "de"), "en", "de"),
    "tsv with the usual heading": lambda folder: (tsv(folder, "source", "target"), "", ""),
    "csv": lambda folder: (csv(folder, "id,en,de", "1,"), "en", "de"),
    "csv of two columns": lambda folder: (csv(folder, "anchor,positive"), "", ""),
    "tsv of a tuple": lambda folder: ((tsv(folder),), "", ""),
    "jsonl": lambda folder: (jsonl(folder), "", ""),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_has_the_same_pairs(kind: str, tmp_path: Path) -> None:
    data, source, target = KINDS[kind](tmp_path)
    pairs = read_pairs(data, source=source, target=target)
    assert [*pairs.keys()] == [(a.strip(), b.strip()) for a, b in ROWS]


def test_the_direction_is_that_of_the_languages(tmp_path: Path) -> None:
    files = parallel(tmp_path)
    assert read_pairs(files, source="de").source[0] == "Ein Haus."
    assert read_pairs(files[::-1]).source[0] == "Ein Haus."
    assert read_pairs(tsv(tmp_path), source="2").source[0] == "Ein Haus."
    (tmp_path / "valid").mkdir()
    held_out = parallel(tmp_path / "valid", "de en")  # what is German by its name counts as German
    data = load_pairs(files, source="de", validation_data=held_out)
    assert (data.source, data.target) == ("de", "en")
    assert data.validation.source[0] == "A house."


def refused(data: str | list[str], **settings: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its sentence is what is tested
        read_pairs(data, **settings)  # type: ignore[arg-type]
    return str(caught.value)


def test_files_of_different_lengths_are_refused(tmp_path: Path) -> None:
    first, second = parallel(tmp_path)
    Path(first).write_text("one\ntwo\n")
    assert refused([first, second]) == (
        f"{first} has 2 lines and {second} 5: line by line the one must belong to the other"
    )


def test_an_empty_side_is_refused_or_left_out_and_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = parallel(tmp_path)
    Path(first).write_text("one\n \nthree\nfour\n\n")
    Path(second).write_bytes("eins\nzwei\ndr\xe9i\nvier\nfünf\n".encode("latin-1"))
    assert refused([first, second]) == f"line 2 of {first} is empty; --skip-bad leaves such pairs out"
    assert [*read_pairs([first, second], bad="skip").keys()] == [("one", "eins"), ("four", "vier")]
    said = capfd.readouterr().err
    assert f"left out, because it is empty: 2 (first line 2 of {first})" in said
    assert f"left out, because it is not UTF-8 text: 1 (first line 3 of {second})" in said
    Path(first).write_text("one\ntwo\nthree\nfour\nfive\n")
    assert refused([first, second]) == f"line 3 of {second} is not UTF-8 text: byte 0xe9 at its position 2"


def test_utf16_is_refused(tmp_path: Path) -> None:
    first, second = parallel(tmp_path)
    Path(second).write_text("one\n", encoding="utf-16")
    assert refused([first, second]) == f"{second} is UTF-16, not UTF-8 text: save it as UTF-8"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a\tb\nc\n", "line 2 of {} has not 2 fields but 1"),
        ("a\tb\nc\t\n", "line 2 of {} has an empty side"),
        ("a\tb\tc\n", "{} has 1, 2, 3: name two of them by --source and --target"),
        ("en\tde\na\tb\n", "line 1 of {} may be a heading: say --source en --target de, or --source 1 --target 2"),
        ("", "{} is empty"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(content: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "own.tsv"
    file.write_text(content)
    assert refused(str(file)).startswith(reason.format(file))


def test_a_quoted_tsv_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.tsv"
    file.write_text('source\ttarget\nx\t"he said ""no"""\n')
    assert refused(str(file)).startswith(f"line 2 of {file} is quoted as in a .csv file: rename the file to .csv")
    file.rename(tmp_path / "own.csv")
    assert read_pairs(str(tmp_path / "own.csv")).target == ['he said "no"']


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"source": "fr"}, "has no 'fr': it has en, de (--source, --target)"),
        ({"source": "en", "target": "en"}, "source = target = 'en': the two sides must differ"),
    ],
)
def test_sides_that_there_are_not(settings: dict[str, str], reason: str, tmp_path: Path) -> None:
    assert reason in refused(parallel(tmp_path), **settings)


def test_data_that_there_is_not(tmp_path: Path) -> None:
    assert "data = 'multi30' is not a file; did you mean 'multi30k'?" in refused("multi30")
    assert "accepted are multi30k, two parallel files" in refused(str(tmp_path / "nothing.tsv"))
    assert "not a table or two files" in refused(parallel(tmp_path)[0])
    assert "not a table or two files" in refused(parallel(tmp_path) * 2)
    assert "do not say which is 'de'" in refused(parallel(tmp_path, "a.txt b.txt"), source="de")


def test_the_same_fraction_is_always_held_out(tmp_path: Path) -> None:
    for end in ("en", "de"):
        (tmp_path / f"x.{end}").write_text("".join(f"{end} {number}\n" for number in range(50)))
    files = [str(tmp_path / "x.en"), str(tmp_path / "x.de")]
    data = load_pairs(files, validation=0.2)
    assert (len(data.train), len(data.validation)) == (40, 10)
    assert {*data.train.keys()} | {*data.validation.keys()} == {*read_pairs(files).keys()}
    assert [text[3:] for text in data.validation.source] == [text[3:] for text in data.validation.target]
    assert data.fingerprint == load_pairs(files, validation=0.2).fingerprint
    assert data.fingerprint != load_pairs(files, validation=0.3).fingerprint
    assert data.fingerprint != load_pairs(files, source="de", validation=0.2).fingerprint
    assert data.train.source == sorted(data.train.source, key=read_pairs(files).source.index)
    for fraction in (0.0, 1.0, 0.001):
        with pytest.raises(ValueError, match="validation = "):
            load_pairs(files, validation=fraction)


def test_pairs_in_both_parts_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = parallel(tmp_path)
    load_pairs(files, validation_data=files)
    assert "5 of the 5 validation rows are in the training part too" in capfd.readouterr().err


def test_multi30k(data_root: Path) -> None:
    data = load_pairs("multi30k", root=data_root)
    sizes = {"train": len(data.train), "val": len(data.validation), **{k: len(v) for k, v in data.tests.items()}}
    assert sizes == {"train": 29_000, "val": 1014, "test_2016_flickr": 1000}
    assert next(data.train.keys()) == (
        "Two young, White males are outside near many bushes.",
        "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    )
    back = load_pairs(["multi30k"], source="de", root=data_root)
    assert (back.source, back.target) == ("de", "en")
    assert (back.train.source, back.train.target) == (data.train.target, data.train.source)
    assert back.fingerprint != data.fingerprint
