"""The rows of tables: JSON lines, CSV and Parquet files, of which one column holds text, or several are read."""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from typing import Literal, NamedTuple

from core.messages import first_line
from text.corpus.documents import BadText, Document

Choice = Callable[[str, Sequence[str], Sequence[str]], tuple[str, ...]]
"""Which columns to read: (what an error calls the table, all its columns, those that hold text) -> names."""
Cells = Iterator[tuple[str, tuple[object, ...] | BadText]]
"""What each row has in the columns that are read, behind what an error calls the row."""
Reader = Callable[[Document, Choice], Cells]

ADVICE = "; --skip-bad leaves such rows out"
TOGETHER = 256  # rows of a Parquet file read at once
LONGEST = (1 << 31) - 1  # characters of a field of a CSV file
SEPARATORS = ",;\t|"


class Row(NamedTuple):
    """Several cells of a row, as text. label: what an error calls the row."""

    label: str
    cells: tuple[str, ...]


def rows(document: Document, column: str = "") -> Iterator[str | BadText]:
    """The text of each row, in order, or what is wrong with it; rows without any text are left out.

    column: by default `text`, or the only one with text. Raises BadText for a file that is no such table.
    """

    def choose(label: str, _: Sequence[str], texts: Sequence[str]) -> tuple[str]:
        return (text_column(label, texts, column),)

    readers: dict[str, Reader] = {".csv": _separated, ".tsv": _separated, ".parquet": _parquet}
    for label, cells in readers.get(document.table, _json_lines)(document, choose):
        cell = cells if isinstance(cells, BadText) else cells[0]
        if isinstance(cell, BadText):
            yield cell
        elif isinstance(cell, str):
            yield from _checked(label, cell)
        elif cell is not None:
            yield BadText(label, "has no text", f" but {cell!r:.40}{ADVICE}")


def columns(document: Document) -> tuple[list[str], list[str]]:
    """The columns of a table, and those of them that hold text; of a .tsv file without a heading, its first row.

    Raises BadText for a file that is no such table.
    """
    every: list[str] = []
    with_text: list[str] = []

    def choose(_: str, names: Sequence[str], texts: Sequence[str]) -> tuple[str, ...]:
        every.extend(names)
        with_text.extend(texts)
        return tuple(names)

    next((None for _ in _cells(document, choose) if every), None)
    return every, with_text


def records(document: Document, names: Sequence[str]) -> Iterator[Row | BadText]:
    """Two or more columns of each row, in order, or what is wrong with the row.

    Numbers and truth values are written as in JSON, and nothing as "". In a .tsv file quotation marks are letters, as
    in most published corpora; a cell that is certainly quoted as in a .csv file is bad. Raises BadText for a file that
    is no such table.
    """
    for label, cells in _cells(document, lambda *_: tuple(names)):
        row = cells if isinstance(cells, BadText) else _record(label, cells)
        if document.table == ".tsv" and isinstance(row, Row) and any(map(_is_quoted, row.cells)):
            yield BadText(label, "is quoted as in a .csv file", ": rename the file to .csv, tabs are recognised there")
        else:
            yield row


def _cells(document: Document, choose: Choice) -> Cells:
    unquoted: Reader = partial(_separated, quoting=csv.QUOTE_NONE)
    readers: dict[str, Reader] = {".csv": _separated, ".tsv": unquoted, ".parquet": _parquet}
    return readers.get(document.table, _json_lines)(document, choose)


def _is_quoted(cell: str) -> bool:
    """Whether a cell has quotation marks around it, and all those inside doubled, some at least."""
    inside = cell[1:-1]
    return cell[:1] == cell[-1:] == '"' and '""' in inside and '"' not in inside.replace('""', "")


def _record(label: str, cells: tuple[object, ...]) -> Row | BadText:
    if len(cells) == 1:
        return BadText(label, "is no object with columns", f" but {cells[0]!r:.40}{ADVICE}")
    if nested := [cell for cell in cells if not isinstance(cell, (str, bool, int, float, type(None)))]:
        return BadText(label, "has no text", f" but {nested[0]!r:.40}{ADVICE}")
    texts = [cell if isinstance(cell, str) else "" if cell is None else json.dumps(cell) for cell in cells]
    bad = next((text for text in _checked(label, "".join(texts)) if isinstance(text, BadText)), None)
    return bad or Row(label, tuple(texts))


def _checked(label: str, text: str) -> Iterator[str | BadText]:
    try:
        text.encode()
    except UnicodeEncodeError:
        yield BadText(label, "is not UTF-8 text", ADVICE)
    else:
        if text:
            yield text


def text_column(label: str, columns: Sequence[str], column: str) -> str:
    """The column to read, of those that hold text. Raises BadText where it is not among them, or not clear."""
    if not column:
        column = columns[0] if len(columns) == 1 else "text"
    if column not in columns:
        raise BadText(label, f"has no text column {column!r}", f": it has {', '.join(columns) or 'none'} (--column)")
    return column


def _json_lines(document: Document, choose: Choice) -> Cells:
    columns: tuple[str, ...] = ()
    with document.opened() as file:
        for number, line in enumerate(file, 1):
            label = f"line {number} of {document.label}"
            if not (line := line.removeprefix(codecs.BOM_UTF8).strip()):
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                yield label, BadText(label, "is not JSON", f": {first_line(error)}{ADVICE}")
                continue
            if not isinstance(row, dict):
                yield label, (row,)
                continue
            columns = columns or choose(label, [*row], [name for name in row if isinstance(row[name], str)])
            if lacking := [name for name in columns if name not in row]:
                yield label, BadText(label, f"has no {lacking[0]!r}", f" but {', '.join(row)}{ADVICE}")
            else:
                yield label, tuple(row[name] for name in columns)


def _separated(document: Document, choose: Choice, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> Cells:
    csv.field_size_limit(LONGEST)
    with document.opened() as file, io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as lines:
        first = lines.readline()
        separator = "\t" if document.table == ".tsv" else max(SEPARATORS, key=first.count)
        reader = csv.reader(chain([first], lines), delimiter=separator, strict=True, quoting=quoting)
        header = next(reader, [])
        places = [header.index(name) for name in choose(document.label, header, header)]
        while True:
            label = f"line {reader.line_num + 1} of {document.label}"
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield label, BadText(label, "is not a row", f": {error}{ADVICE}")
                continue
            if row and len(row) != len(header):
                yield label, BadText(label, f"has not {len(header)} fields", f" but {len(row)}{ADVICE}")
            elif row:
                yield label, tuple(row[place] for place in places)


def _parquet(document: Document, choose: Choice) -> Cells:
    try:
        import pyarrow
        from pyarrow import parquet, types
    except ImportError as error:
        raise ValueError(f"{document.label} needs the `pyarrow` library: pip install pyarrow") from error
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    try:
        with document.opened() as file, parquet.ParquetFile(file) as table:
            schema = table.schema_arrow
            named = [field.name for field in schema if any(is_text(field.type) for is_text in texts)]
            columns = list(choose(document.label, schema.names, named))
            numbers = count(1)
            for batch in table.iter_batches(TOGETHER, columns=columns):
                cells = zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
                yield from ((f"row {next(numbers)} of {document.label}", row) for row in cells)
    except pyarrow.ArrowException as error:
        raise BadText(document.label, "is not a readable Parquet file", f": {first_line(error)}") from error
