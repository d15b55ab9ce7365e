"""Texts with a label each: published sets, and tables of one's own."""

import hashlib
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from text.corpus.documents import BadText, Document
from text.corpus.published import find_published, sst2
from text.corpus.sources import Data
from text.corpus.tables import columns, records
from text.examples.parts import Bad, Parts, Rows, find_files, hold_out, notice_overlap, only, usable

NAMED = {"sst2": ("train", "dev", "test"), "sst2:phrases": ("glue-train", "glue-dev", "test")}
SENTIMENT = {"0": "negative", "1": "positive"}
TEXT_COLUMNS, LABEL_COLUMN = ("text", "sentence"), "label"
WHOLE = re.compile(r"-?\d+")
ADVICE = "; --skip-bad leaves such rows out"
ACCEPTED = f"accepted are {', '.join(NAMED)}, and tables (.tsv, .csv, .jsonl, .parquet) of texts and labels"


@dataclass(frozen=True, eq=False)
class Texts(Rows):
    """Texts, each with the number of its class. seconds: the second of two texts, "" where there is one."""

    texts: Sequence[str]
    seconds: Sequence[str]
    labels: Sequence[int]

    def keys(self) -> Iterator[Hashable]:
        return zip(self.texts, self.seconds, strict=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledText(Parts[Texts]):
    """Texts and labels for training, validation and tests. classes: the label of each number.

    paired: whether there are two texts in a row.
    """

    classes: tuple[str, ...]
    paired: bool

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what is trained and validated on, and of the classes."""
        return hashlib.sha256(f"{super().fingerprint} {self.classes}".encode()).hexdigest()


@dataclass(frozen=True)
class Columns:
    """The columns of a table, by name; by default `text`, `sentence` or the only one, no second text, and `label`."""

    text: str = ""
    second: str = ""
    label: str = ""

    def of(self, file: Document) -> list[str]:
        """Those to read of a file: text, label, and the second text if one is asked for. Raises BadText."""
        every, with_text = columns(file)
        label = self.label or LABEL_COLUMN
        rest = [name for name in with_text if name not in (label, self.second)]
        usual = next((name for name in TEXT_COLUMNS if name in rest), rest[0] if len(rest) == 1 else TEXT_COLUMNS[0])
        wanted = [self.text or usual, label, *filter(None, [self.second])]
        if missing := [name for name in wanted if name not in every]:
            settings = "--column, --second-column, --label-column"
            raise BadText(file.label, f"has no column {missing[0]!r}", f": it has {', '.join(every)} ({settings})")
        if len({*wanted}) < len(wanted):
            raise BadText(file.label, f"cannot have the column {wanted[0]!r} as two things at once")
        return wanted


class _Row(NamedTuple):
    place: str
    text: str
    second: str
    answer: str


@dataclass(frozen=True, eq=False)
class _Read(Rows):
    """Rows as they are read. places: what an error calls each; answers: the labels as they are written."""

    places: Sequence[str]
    texts: Sequence[str]
    seconds: Sequence[str]
    answers: Sequence[str]


def load_labelled(
    data: Data,
    *,
    column: str = "",
    second_column: str = "",
    label_column: str = "",
    validation: float = 0.1,
    validation_data: Data = "",
    bad: Bad = "refuse",
    root: Path | None = None,
) -> LabelledText:
    """Texts and labels to train on, to validate on, and to test with.

    data: one or several tables, or a published set, under `root` (default: `data_root()`) or downloaded:
        - `sst2`: sentences of film reviews, negative or positive: 6,920, 872 to validate on and 1,821 to test with
        - `sst2:phrases`: the same, but trained on the 67,349 phrases of GLUE, which are parts of the sentences
    column, second_column, label_column: of the text, by default `text`, `sentence` or the only one; of a second one, by
        default none; of the label, by default `label`.
    validation: the fraction of each class that is held out, drawn by a fixed seed. Or validation_data, named like data.
    bad: whether a row without text or label, or one that is not UTF-8, is refused or left out and counted in a notice.

    Classes are in the order of their labels, numbers by value. Raises ValueError naming file and row for bad input, and
    for a label that no row to train on has.
    """
    wanted = Columns(column, second_column, label_column)
    if (name := only(data)) in NAMED:
        return _sst2(name, wanted, validation_data, bad, root)
    train, name = _read(data, wanted, bad)
    if validation_data:
        held_out, _ = _read(validation_data, wanted, bad)
    else:
        train, held_out = hold_out(train, validation, name, train.answers)
    classes = ordered(train.answers)
    if len(classes) < 2:
        raise ValueError(f"{name} has the label {classes[0]!r} only: there must be two or more to tell apart")
    parts = _numbered(train, classes), _numbered(held_out, classes)
    notice_overlap(name, *parts)
    return LabelledText(name=name, train=parts[0], validation=parts[1], classes=classes, paired=bool(wanted.second))


def read_labelled(
    data: Data,
    classes: Sequence[str],
    *,
    column: str = "",
    second_column: str = "",
    label_column: str = "",
    bad: Bad = "refuse",
) -> Texts:
    """The rows of one's own tables, all as one part, their labels among given classes; see `load_labelled`."""
    rows, _ = _read(data, Columns(column, second_column, label_column), bad)
    return _numbered(rows, classes)


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """Each label once, in order: by value if all are whole numbers, else by their characters."""
    every = sorted({*labels})
    return tuple(sorted(every, key=int) if all(map(WHOLE.fullmatch, every)) else every)


def _sst2(data: str, wanted: Columns, validation_data: Data, bad: Bad, root: Path | None) -> LabelledText:
    if wanted != Columns() and not validation_data:
        given = ", ".join(f"the {name} column {value!r}" for name, value in asdict(wanted).items() if value)
        raise ValueError(f"{given} has no effect: {data} has its own columns")
    files = [find_published(sst2(part), root) for part in NAMED[data]]
    read = [_together([file], Columns(), "refuse", data) for file in files]
    classes = tuple(SENTIMENT.values())
    train, held_out, test = (
        _numbered(replace(rows, answers=[SENTIMENT[answer] for answer in rows.answers]), classes) for rows in read
    )
    if validation_data:
        held_out = _numbered(_read(validation_data, wanted, bad)[0], classes)
    return LabelledText(
        name=data, train=train, validation=held_out, tests={"test": test}, classes=classes, paired=False
    )


def _read(data: Data, wanted: Columns, bad: Bad) -> tuple[_Read, str]:
    files = find_files(data, [*NAMED], ACCEPTED)
    name = ", ".join(file.label for file in files)
    if other := [file.label for file in files if not file.table]:
        raise ValueError(f"data = {other[0]!r} is no table; {ACCEPTED}")
    return _together(files, wanted, bad, name), name


def _together(files: Sequence[Document], wanted: Columns, bad: Bad, name: str) -> _Read:
    """The rows of all files."""
    found = usable((row for file in files for row in _rows(file, wanted)), bad, name)
    return _Read(*(list(column) for column in zip(*found, strict=True)))


def _rows(file: Document, wanted: Columns) -> Iterator[_Row | BadText]:
    for row in records(file, wanted.of(file)):
        if isinstance(row, BadText):
            yield row
            continue
        text, answer, *second = (cell.strip() for cell in row.cells)
        if not (text and all(second)):
            yield BadText(row.label, "has an empty text", ADVICE)
        elif not answer:
            yield BadText(row.label, "has no label", ADVICE)
        else:
            yield _Row(row.label, text, second[0] if second else "", answer)


def _numbered(rows: _Read, classes: Sequence[str]) -> Texts:
    """The rows with the numbers of their classes."""
    numbers = {name: number for number, name in enumerate(classes)}
    for place, answer in zip(rows.places, rows.answers, strict=True):
        if answer not in numbers:
            known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            raise ValueError(f"{place} has the label {answer!r}, which no row to train on has: known are {known}")
    return Texts(rows.texts, rows.seconds, [numbers[answer] for answer in rows.answers])
