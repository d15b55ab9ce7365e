"""A data set of rows in its parts: training, validation, and any number of tests."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

import numpy as np

from core.messages import nearest, notice
from core.training.order import stream
from text.corpus.documents import BadText, Document
from text.corpus.sources import Data
from text.corpus.stream import Notes

Bad = Literal["refuse", "skip"]
"""Whether a row that cannot be used is refused or left out."""
HELD_OUT = 0  # the seed of what is held out: the same rows, whatever the seed of a run

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows in columns: every field is a sequence of equal length, of texts, of integers, of arrays."""

    def __len__(self) -> int:
        return len(self._columns()[0][1])

    def take(self, places: Iterable[int]) -> Self:
        """These rows, in this order."""
        places = [*places]
        return replace(self, **{name: [column[place] for place in places] for name, column in self._columns()})

    def keys(self) -> Iterator[Hashable]:
        """Of each row, all but its answer: by these a row is found that is in two parts."""
        return zip(*(column for _, column in self._columns()), strict=True)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all rows."""
        digest = hashlib.sha256()
        for piece in _bytes([column for _, column in self._columns()]):
            digest.update(piece)
        return digest.hexdigest()

    def _columns(self) -> list[tuple[str, Any]]:
        return [(each.name, getattr(self, each.name)) for each in fields(self)]


R = TypeVar("R", bound=Rows)


@dataclass(frozen=True, eq=False, kw_only=True)
class Parts(Generic[R]):
    """A data set. tests: further parts, by name; none of data of one's own."""

    name: str
    train: R
    validation: R
    tests: Mapping[str, R] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what is trained and validated on, by which a resumed run knows its data again."""
        return hashlib.sha256(f"{self.train.fingerprint} {self.validation.fingerprint}".encode()).hexdigest()


def usable(rows: Iterable[T | BadText], bad: Bad, name: str) -> list[T]:
    """The rows that can be used; others are refused, or counted in a notice.

    Raises BadText, a ValueError, for the first that cannot, and ValueError if none is left.
    """
    kept: list[T] = []
    notes = Notes()
    for row in rows:
        if not isinstance(row, BadText):
            kept.append(row)
        elif bad == "refuse":
            raise row
        else:
            notes.add(f"left out, because it {row.reason}", row.label)
    for sentence in notes.sentences():
        notice(f"{name}: {sentence}")
    if not kept:
        raise ValueError(f"{name} is empty: it has no row that can be used")
    return kept


def hold_out(rows: R, fraction: float, name: str, groups: Sequence[Hashable] = ()) -> tuple[R, R]:
    """Training and validation rows, each in order: of every group a fraction is held out, drawn by a fixed seed.

    groups: that of each row; by default all are of one. A group keeps a row to train on.

    Raises ValueError for a fraction outside (0, 1), or one of which nothing is held out.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"validation = {fraction!r} must be above 0 and below 1")
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, group in enumerate(groups or [0] * len(rows)):
        places[group].append(place)
    held_out: set[int] = set()
    for number, members in enumerate(places.values()):
        count = min(int(fraction * len(members) + 0.5), len(members) - 1)
        order = np.random.RandomState(stream(HELD_OUT, "held out", number)).permutation(len(members))
        held_out.update(members[index] for index in order[:count].tolist())
    if not held_out:
        raise ValueError(f"validation = {fraction!r} holds out nothing of the {len(rows)} rows of {name}")
    train, validation = (rows.take(i for i in range(len(rows)) if (i in held_out) is out) for out in (False, True))
    return train, validation


def load_parts(read: Callable[[Data], tuple[R, str]], data: Data, validation: float, validation_data: Data) -> Parts[R]:
    """Rows to train on and to validate on: those of validation_data, or where that is none a fraction of `data`'s.

    read: the rows of what is named so, and their name
    """
    train, name = read(data)
    if validation_data:
        held_out, _ = read(validation_data)
    else:
        train, held_out = hold_out(train, validation, name)
    notice_overlap(name, train, held_out)
    return Parts(name=name, train=train, validation=held_out)


def notice_overlap(name: str, train: Rows, validation: Rows) -> None:
    """Says how many of the rows that are held out are also trained on."""
    known = set(train.keys())
    if both := sum(key in known for key in validation.keys()):  # noqa: SIM118 - not a mapping
        notice(f"{name}: {both:,} of the {len(validation):,} validation rows are in the training part too")


def only(data: Data) -> str:
    """The one thing that `data` names; "" where there are several."""
    names = [str(data)] if isinstance(data, (str, Path)) else [*data]
    return names[0] if len(names) == 1 else ""


def find_files(data: Data, names: Sequence[str], accepted: str) -> list[Document]:
    """The files that `data` names, one or several. Raises ValueError, saying what is accepted, if there is one not.

    names: of published sets, one of which may have been meant
    """
    given = [str(data)] if isinstance(data, (str, Path)) else [*data]
    paths = [Path(name).expanduser() for name in given]
    for name, path in zip(given, paths, strict=True):
        if not path.is_file():
            raise ValueError(f"data = {name!r} is not a file; {nearest(name, names, accepted)}")
    if not paths:
        raise ValueError(f"data = {data!r} names nothing; {accepted}")
    return [Document(str(path), path) for path in paths]


def _bytes(value: Any) -> Iterator[bytes]:
    """What is told apart of a value, in bytes."""
    if isinstance(value, str):
        yield value.encode() + b"\0"
    elif isinstance(value, np.ndarray):
        yield value.tobytes()
    elif isinstance(value, int):
        yield b"%d\0" % value
    else:
        for each in value:
            yield from _bytes(each)
    yield b"\1"
