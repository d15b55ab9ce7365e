"""Texts in pairs: sentences and their translations, questions and answers, two wordings of the same."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from text.corpus.documents import BadText, Document, lines, plain_name
from text.corpus.published import find_published, multi30k
from text.corpus.sources import Data
from text.corpus.tables import columns, records
from text.examples.parts import Bad, Parts, Rows, find_files, hold_out, notice_overlap, only, usable

LANGUAGES = ("en", "de")  # of Multi30k
PARTS = ("train", "val", "test_2016_flickr")
ADVICE = "; --skip-bad leaves such pairs out"
CODE = re.compile(r"[a-z]{2,3}([-_][A-Za-z]{2,4})?")  # a language: en, deu, pt_BR
ACCEPTED = "accepted are multi30k, two parallel files (a.de b.en), or a table (.tsv, .csv, .jsonl, .parquet) of pairs"

Pair = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Pairs(Rows):
    """Pairs of texts, none of which is empty or has white space around it."""

    source: Sequence[str]
    target: Sequence[str]


@dataclass(frozen=True, eq=False, kw_only=True)
class ParallelText(Parts[Pairs]):
    """Pairs for training, validation and tests. source, target: what the sides are called; "" where nothing says it."""

    source: str
    target: str


@dataclass(frozen=True)
class Sides:
    """Which side is which: a language, the name of a column, or its number in a table without a heading."""

    source: str = ""
    target: str = ""

    def __post_init__(self) -> None:
        if self.source and self.source == self.target:
            raise ValueError(f"source = target = {self.source!r}: the two sides must differ")

    @property
    def given(self) -> list[str]:
        return [name for name in (self.source, self.target) if name]

    def among(self, names: Sequence[str], label: str) -> "Sides":
        """Both sides, of the names that there are: the ones that are asked for, else the first of two others.

        Raises ValueError where one is not among them, or there are several to choose from.
        """
        if missing := [name for name in self.given if name not in names]:
            raise ValueError(f"{label} has no {missing[0]!r}: it has {', '.join(names)} (--source, --target)")
        if not self.given and {"source", "target"} <= {*names}:
            return Sides("source", "target")
        others = [name for name in names if name not in self.given]
        if len(others) + len(self.given) != 2 and len(self.given) < 2:
            raise ValueError(f"{label} has {', '.join(names) or 'nothing'}: name two of them by --source and --target")
        source = self.source or others.pop(0)
        return Sides(source, self.target or others.pop(0))


def load_pairs(
    data: Data,
    *,
    source: str = "",
    target: str = "",
    validation: float = 0.1,
    validation_data: Data = "",
    bad: Bad = "refuse",
    root: Path | None = None,
) -> ParallelText:
    """Pairs of texts to train on, to validate on, and to test with.

    data: `multi30k` (29,000 pairs, with 1,014 to validate on and the 1,000 of test_2016_flickr), under `root` (default:
        `data_root()`) or downloaded; two files whose lines are pairs, compressed or not; or one table.
    source, target: by default from English to German in Multi30k, from the first file to the second, from the first of
        two columns to the second, or from the column `source` to `target`. Languages are told by the ends of files'
        names, columns by their heading, or by their number, from 1, in a .tsv file that has none.
    validation: the fraction of the pairs that is held out, drawn by a fixed seed. Or validation_data, named like data.
    bad: whether a pair with an empty side, or one that is not UTF-8, is refused or left out, with a notice of how many.

    Raises ValueError naming file and line for bad input.
    """
    sides = Sides(source, target)
    if only(data) == "multi30k":
        return _multi30k(sides.among(LANGUAGES, "multi30k"), validation_data, bad, root)
    train, name, sides = _read(data, sides, bad)
    if validation_data:
        held_out, _, _ = _read(validation_data, sides, bad)
    else:
        train, held_out = hold_out(train, validation, name)
    notice_overlap(name, train, held_out)
    return ParallelText(name=name, train=train, validation=held_out, source=sides.source, target=sides.target)


def read_pairs(data: Data, *, source: str = "", target: str = "", bad: Bad = "refuse") -> Pairs:
    """The pairs in one's own files, all as one part; see `load_pairs`."""
    pairs, _, _ = _read(data, Sides(source, target), bad)
    return pairs


def _multi30k(sides: Sides, validation_data: Data, bad: Bad, root: Path | None) -> ParallelText:
    parts = []
    for part in PARTS:
        files = [find_published(multi30k(part, language), root) for language in (sides.source, sides.target)]
        parts.append(_pairs(usable(_parallel(*files), "refuse", f"multi30k's {part}")))
    train, held_out, test = parts
    if validation_data:
        held_out, _, _ = _read(validation_data, sides, bad)
    both = {"source": sides.source, "target": sides.target}
    return ParallelText(name="multi30k", train=train, validation=held_out, tests={PARTS[-1]: test}, **both)


def _read(data: Data, sides: Sides, bad: Bad) -> tuple[Pairs, str, Sides]:
    """The pairs in files, what the files are called, and which side is which."""
    files = find_files(data, ["multi30k"], ACCEPTED)
    name = ", ".join(file.label for file in files)
    if len(files) > 2 or not (len(files) == 2 or files[0].table):
        raise ValueError(f"data = {name}: that is not a table or two files; {ACCEPTED}")
    if len(files) == 2:
        files, sides = _ordered(files, sides, name)
        found = _parallel(*files)
    else:
        sides, headed = _columns(files[0], sides)
        found = _headed(files[0], sides) if headed else _unheaded(files[0], sides)
    return _pairs(usable(found, bad, name)), name, sides


def _pairs(found: list[Pair]) -> Pairs:
    return Pairs([source for source, _ in found], [target for _, target in found])


def _ordered(files: list[Document], sides: Sides, name: str) -> tuple[list[Document], Sides]:
    """The two files, source first, and what the sides are called by the ends of their names."""
    ends = [plain_name(file.path).rpartition(".")[2] for file in files if file.path]
    if ends[0] == ends[1]:
        if sides.given:
            raise ValueError(f"{name} do not say which is {sides.given[0]!r}: let their names end in it")
        return files, sides
    sides = sides.among(ends, name)
    return [files[ends.index(side)] for side in (sides.source, sides.target)], sides


def _parallel(first: Document, second: Document) -> Iterator[Pair | BadText]:
    """Pairs of lines. Raises ValueError where one file has more of them than the other."""
    sources, targets = [*lines(first)], [*lines(second)]
    if len(sources) != len(targets):
        counts = f"{first.label} has {len(sources):,} lines and {second.label} {len(targets):,}"
        raise ValueError(f"{counts}: line by line the one must belong to the other")
    for number, pair in enumerate(zip(sources, targets, strict=True), 1):
        labels = [f"line {number} of {file.label}" for file in (first, second)]
        yield _pair(pair, labels, "is empty")


def _pair(sides: Sequence[str | BadText], labels: Sequence[str], reason: str) -> Pair | BadText:
    """The pair, or what is wrong with one of its sides, the rows of which have these labels."""
    texts = []
    for side, label in zip(sides, labels, strict=True):
        if isinstance(side, BadText):
            return side
        if not (text := side.strip()):
            return BadText(label, reason, ADVICE)
        texts.append(text)
    return texts[0], texts[1]


def _columns(file: Document, sides: Sides) -> tuple[Sides, bool]:
    """The two columns of a table, by name or by number, and whether it has a heading."""
    every, with_text = columns(file)
    numbers = [str(number) for number, _ in enumerate(every, 1)]
    if not every:
        raise ValueError(f"{file.label} is empty: it has no pairs")
    if file.table != ".tsv" or not {*sides.given} <= {*numbers}:
        return sides.among(with_text if not sides.given else every, file.label), True
    if not sides.given and {"source", "target"} <= {*every}:
        return Sides("source", "target"), True
    if not sides.given and all(map(CODE.fullmatch, every)):
        raise ValueError(
            f"line 1 of {file.label} may be a heading: say --source {every[0]} --target {every[-1]}, or --source 1 "
            f"--target {len(every)} if it is a pair"
        )
    return sides.among(numbers, file.label), False


def _headed(file: Document, sides: Sides) -> Iterator[Pair | BadText]:
    for row in records(file, [sides.source, sides.target]):
        yield row if isinstance(row, BadText) else _pair(row.cells, [row.label] * 2, "has an empty side")


def _unheaded(file: Document, sides: Sides) -> Iterator[Pair | BadText]:
    """Pairs of columns, by their numbers."""
    places = [int(side) - 1 for side in (sides.source, sides.target)]
    width = 0
    for number, line in enumerate(lines(file), 1):
        label = f"line {number} of {file.label}"
        cells = [] if isinstance(line, BadText) else line.split("\t")
        width = width or len(cells)
        if isinstance(line, BadText):
            yield line
        elif len(cells) != width:
            yield BadText(label, f"has not {width} fields", f" but {len(cells)}{ADVICE}")
        else:
            yield _pair([cells[place] for place in places], [label] * 2, "has an empty side")
