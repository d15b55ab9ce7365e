"""Which rows of a trained head are for which classes of other images: those of the same name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from vision.data.folder import first_few

Rows = list[int | None]


@dataclass(frozen=True)
class ClassNames:
    """The names of a head's classes, as many as it has rows; none where they are unknown.

    names: one for each row. others: what else each is called, as in "tench, Tinca tinca".
    """

    names: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def rows(self, classes: Sequence[str], count: int) -> tuple[Rows, str]:
        """For each class the row of a head of `count` rows that is called like it, or None; and "name" or "number".

        Case, hyphens and underscores do not matter; what several rows are called is no name. Where no name is the same,
        classes that are the numbers from 0 to count - 1 are the numbers of rows.
        """
        rows = self._rows_by_name(classes)
        numbers = [int(name) for name in classes if name.isdecimal()]
        if not any(row is not None for row in rows) and len(classes) == count and sorted(numbers) == [*range(count)]:
            return [*numbers], "number"
        return rows, "name"

    def _rows_by_name(self, classes: Sequence[str]) -> Rows:
        exact = {name: row for row, name in enumerate(self.names) if name}
        alike: dict[str, set[int]] = {}
        for row, name in self._all_names():
            alike.setdefault(plain(name), set()).add(row)
        unique = {name: min(rows) for name, rows in alike.items() if len(rows) == 1}
        found = [exact.get(name) for name in classes]
        taken = set(found)
        for place, name in enumerate(classes):
            row = unique.get(plain(name), -1)
            if row >= 0 and found[place] is None and row not in taken:
                found[place] = row
                taken.add(row)
        return found

    def _all_names(self) -> Iterator[tuple[int, str]]:
        for texts in (self.names, self.others):
            for row, text in enumerate(texts):
                yield from ((row, part) for part in {text, *text.split(",")} if part.strip())


def plain(name: str) -> str:
    """A name without case, hyphens and underscores."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def keep_rows(fresh: Mapping[str, Tensor], trained: Mapping[str, Tensor], rows: Rows) -> dict[str, Tensor]:
    """A head's tensors, of one row for each class: the trained rows where there are any, else the fresh ones."""
    places = [place for place, row in enumerate(rows) if row is not None]
    kept = [row for row in rows if row is not None]
    head = {name: tensor.clone() for name, tensor in fresh.items()}
    for name, tensor in head.items():
        tensor[places] = trained[name][kept].to(tensor)
    return head


def describe_head(name: str, rows: Rows, by: str, classes: Sequence[str], known: ClassNames, count: int) -> str:
    """A sentence about what of the head of `count` rows of a model is kept, by names or by numbers."""
    new = [label for label, row in zip(classes, rows, strict=True) if row is None]
    if not new:
        return f"the head of {name} is kept: {len(rows):,} of its {count:,} classes, by {by}"
    if len(new) < len(rows):
        return f"the head of {name} is kept for {len(rows) - len(new):,} classes, by {by}; new are {first_few(new)}"
    has = f"has one of {count}" if count else "has none"
    why = "" if not count else ", none by these names" if known.names else ", whose names are not known"
    return f"the head of {len(rows)} classes is trained from scratch: {name} {has}{why}"
