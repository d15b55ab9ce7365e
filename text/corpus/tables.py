"""The rows of tables: JSON lines, CSV and Parquet files, of which one column holds text."""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import chain, count

from core.messages import first_line
from text.corpus.documents import BadText, Document

Cells = Iterator[tuple[str, object]]
"""What each row has in the column of text, behind what an error calls the row."""

ADVICE = "; --skip-bad leaves such rows out"
TOGETHER = 256  # rows of a Parquet file read at once
LONGEST = (1 << 31) - 1  # characters of a field of a CSV file
SEPARATORS = ",;\t|"


def rows(document: Document, column: str = "") -> Iterator[str | BadText]:
    """The text of each row, in order, or what is wrong with it; rows without any text are left out.

    column: by default `text`, or the only one with text. Raises BadText for a file that is no such table.
    """
    readers = {".csv": _separated, ".tsv": _separated, ".parquet": _parquet}
    for label, cell in readers.get(document.table, _json_lines)(document, column):
        if isinstance(cell, BadText):
            yield cell
        elif isinstance(cell, str):
            yield from _checked(label, cell)
        elif cell is not None:
            yield BadText(label, "has no text", f" but {cell!r:.40}{ADVICE}")


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


def _json_lines(document: Document, column: str) -> Cells:
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
            if isinstance(row, dict):
                column = column or text_column(label, [name for name in row if isinstance(row[name], str)], column)
                row = row.get(column, BadText(label, f"has no {column!r}", f" but {', '.join(row)}{ADVICE}"))
            yield label, row


def _separated(document: Document, column: str) -> Cells:
    csv.field_size_limit(LONGEST)
    with document.opened() as file, io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as lines:
        first = lines.readline()
        separator = "\t" if document.table == ".tsv" else max(SEPARATORS, key=first.count)
        reader = csv.reader(chain([first], lines), delimiter=separator, strict=True)
        header = next(reader, [])
        place = header.index(text_column(document.label, header, column))
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
                yield label, row[place]


def _parquet(document: Document, column: str) -> Cells:
    try:
        import pyarrow
        from pyarrow import parquet, types
    except ImportError as error:
        raise ValueError(f"{document.label} needs the `pyarrow` library: pip install pyarrow") from error
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    try:
        with document.opened() as file, parquet.ParquetFile(file) as table:
            named = [field.name for field in table.schema_arrow if any(is_text(field.type) for is_text in texts)]
            numbers = count(1)
            for batch in table.iter_batches(TOGETHER, columns=[text_column(document.label, named, column)]):
                yield from ((f"row {next(numbers)} of {document.label}", cell) for cell in batch.column(0).to_pylist())
    except pyarrow.ArrowException as error:
        raise BadText(document.label, "is not a readable Parquet file", f": {first_line(error)}") from error
