"""Sentences with a tag for each word, and proteins with one for each residue."""

import hashlib
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.checks import check_choice
from text.corpus.documents import BadText, Document, lines, plain_name
from text.corpus.published import CB513, FLIP, find_published, ud_english_ewt
from text.corpus.sources import Data
from text.corpus.tables import Row, records
from text.corpus.windows import IGNORED
from text.examples.parts import Bad, Parts, Rows, find_files, hold_out, notice_overlap, only, usable

Column = Literal["upos", "xpos"]
NAMED = ("ud_english_ewt", "protein_ss")
CONLLU = {"upos": 3, "xpos": 4}  # the column of each, from 0
WIDTH = 10  # columns of CoNLL-U
NO_WORD = re.compile(r"\d+-\d+|\d+\.\d+")  # the id of a multiword token's range, and of an empty node
DOCSTART = "-DOCSTART-"
STRUCTURE = ("C", "E", "H")  # coil, strand, helix
ADVICE = "; --skip-bad leaves such sentences out"
ACCEPTED = f"accepted are {', '.join(NAMED)}, CoNLL-U files, and files of a word and its tag in each line"

HOMOLOGY = (
    "homology: NetSurfP-2.0 left out of training what is over 25 % identical to a chain of CB513, and ProtTrans left "
    "out of NEW364 what is over 20 % identical to a chain for training; yet 11 of the 511 chains of CB513 (none of "
    "NEW364) share 25 residues in a row with a chain for training or validation, and 3 are part of one"
)
"""What is known of relatives of the test chains among those that are trained on (Klausen et al. 2019, Elnaggar et al.
2021); the counts are of the files as they are."""


@dataclass(frozen=True, eq=False)
class Tagged(Rows):
    """Sentences. words: those of each, or one text for its characters; tags: int64 (T,), IGNORED where none counts."""

    words: Sequence[Sequence[str]]
    tags: Sequence[NDArray[np.int64]]

    def keys(self) -> Iterator[Hashable]:
        return map(tuple, self.words)


@dataclass(frozen=True, eq=False, kw_only=True)
class TaggedText(Parts[Tagged]):
    """Tagged sentences for training, validation and tests. names: the tag of each number, in order.

    unit: what has a tag. note: what should be known of the tests.
    """

    names: tuple[str, ...]
    unit: Literal["words", "characters"] = "words"
    note: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what is trained and validated on, and of the tags."""
        return hashlib.sha256(f"{super().fingerprint} {self.names}".encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class _Read(Rows):
    """Sentences as they are read. places: what an error calls each word."""

    places: Sequence[list[str]]
    words: Sequence[list[str]]
    tags: Sequence[list[str]]


Words = list[tuple[str, str, str]]
"""Of each word of a sentence what an error calls it, the word, and its tag."""
Parse = Callable[[str, str, int], tuple[str, str] | BadText | None]
"""(what an error calls a line, the line, words before it) -> word and tag, what is wrong, or None for no word."""


def load_tagged(
    data: Data,
    *,
    column: Column = "upos",
    validation: float = 0.1,
    validation_data: Data = "",
    bad: Bad = "refuse",
    root: Path | None = None,
) -> TaggedText:
    """Tagged sentences to train on, to validate on, and to test with.

    data: one or several files, or a published set, under `root` (default: `data_root()`) or downloaded:
        - `ud_english_ewt`: the English Web Treebank, 12,544 sentences, 2,001 to validate on and 2,077 to test with
        - `protein_ss`: 9,712 protein chains with the secondary structure of each residue (helix H, strand E, coil C; of
          the eight states of DSSP, H G I, E B, and the rest), 1,080 to validate on, to test with NEW364 and CB513. A
          residue that was not resolved counts in no part, nor in CB513 one outside the domain of its row.
        Files are CoNLL-U (by their name, .conllu, or by their ten columns); or the first column of a line is a word and
        the last its tag, by tabs or by spaces, with an empty line between sentences, as in CoNLL-2003.
    column: the tags of CoNLL-U that are read. Its words are the syntactic ones: ranges (1-2) and empty nodes (1.1) have
        no tag.
    validation: the fraction of the sentences that is held out, drawn by a fixed seed. Or validation_data, named like
        data.
    bad: whether a sentence with a broken row is refused, or left out and counted in a notice.

    Raises ValueError naming file and line for bad input, and for a tag that no sentence to train on has.
    """
    check_choice("column", column, tuple(CONLLU))
    name = only(data)
    if name == "protein_ss":
        if validation_data or column != "upos":
            raise ValueError(f"data = {name!r} has its own parts and tags: validation_data and column have no effect")
        return _proteins(root)
    held_out, tests = None, {}
    if name == "ud_english_ewt":
        files = [find_published(ud_english_ewt(part), root) for part in ("train", "dev", "test")]
        train, held_out, tests["test"] = (_together([file], column, "refuse", name) for file in files)
    else:
        train, name = _read(data, column, bad)
    if validation_data:
        held_out, _ = _read(validation_data, column, bad)
    if held_out is None:
        train, held_out = hold_out(train, validation, name)
    return _parts(name, train, held_out, tests)


def read_tagged(data: Data, names: Sequence[str], *, column: Column = "upos", bad: Bad = "refuse") -> Tagged:
    """The sentences of one's own files, all as one part, their tags among given ones; see `load_tagged`."""
    rows, _ = _read(data, column, bad)
    return _numbered(rows, names)


def _parts(name: str, train: _Read, held_out: _Read, tests: Mapping[str, _Read]) -> TaggedText:
    """The parts of a set, whose tags are those of the sentences to train on."""
    names = tuple(sorted({tag for tags in train.tags for tag in tags}))
    parts = _numbered(train, names), _numbered(held_out, names)
    if not tests:
        notice_overlap(name, *parts)
    numbered = {test: _numbered(rows, names) for test, rows in tests.items()}
    return TaggedText(name=name, train=parts[0], validation=parts[1], tests=numbered, names=names)


def _read(data: Data, column: Column, bad: Bad) -> tuple[_Read, str]:
    files = find_files(data, NAMED, ACCEPTED)
    name = ", ".join(file.label for file in files)
    return _together(files, column, bad, name), name


def _together(files: Sequence[Document], column: Column, bad: Bad, name: str) -> _Read:
    """The sentences of all files."""
    found = usable((sentence for file in files for sentence in sentences(file, column)), bad, name)
    columns = [[list(cells) for cells in zip(*words, strict=True)] for words in found]
    return _Read(*([each[number] for each in columns] for number in range(3)))


def _numbered(rows: _Read, names: Sequence[str]) -> Tagged:
    """The sentences with the numbers of their tags."""
    numbers = {name: number for number, name in enumerate(names)}
    for places, tags in zip(rows.places, rows.tags, strict=True):
        for place, tag in zip(places, tags, strict=True):
            if tag not in numbers:
                raise ValueError(
                    f"{place} has the tag {tag!r}, which no sentence to train on has: known are {', '.join(names)}"
                )
    return Tagged(rows.words, [np.array([numbers[tag] for tag in tags], np.int64) for tags in rows.tags])


# Files


def sentences(file: Document, column: Column = "upos") -> Iterator[Words | BadText]:
    """The sentences of a file, or what is wrong with one, by its line."""
    content = [*lines(file)]
    first = next((line for line in content if isinstance(line, str) and line.strip() and line[0] != "#"), "")
    parse = _parser(file, first, column)
    words: Words = []
    broken: BadText | None = None
    for number, line in enumerate([*content, ""], 1):
        place = f"line {number} of {file.label}"
        if isinstance(line, BadText):
            broken = broken or line
        elif line.strip():
            found = parse(place, line, len(words))
            broken = broken or (found if isinstance(found, BadText) else None)
            if isinstance(found, tuple):
                words.append((place, *found))
        elif broken or words:
            yield broken or words
            words, broken = [], None


def _parser(file: Document, first: str, column: Column) -> Parse:
    """What reads the lines of a file whose first with a word is this."""
    cells = first.split("\t")
    by_name = file.path is not None and plain_name(file.path).endswith((".conllu", ".conll-u"))
    if by_name or (len(cells) == WIDTH and cells[0].partition("-")[0] == "1"):
        return partial(_conllu, column=column)
    if column != "upos":
        raise ValueError(f"column = {column!r} has no effect: {file.label} is no CoNLL-U")
    separator = "\t" if "\t" in first else None
    return partial(_word_and_tag, separator=separator, width=len(first.split(separator)))


def _conllu(place: str, line: str, before: int, column: Column) -> tuple[str, str] | BadText | None:
    """A row of CoNLL-U: universaldependencies.org/format.html."""
    if line[0] == "#":
        return None
    cells = line.split("\t")
    if len(cells) != WIDTH:
        return BadText(place, f"has not {WIDTH} columns, separated by tabs,", f" but {len(cells)}{ADVICE}")
    if NO_WORD.fullmatch(cells[0]):
        return None
    if cells[0] != str(before + 1):
        return BadText(place, "has a wrong word number", f": {cells[0]!r} in place of {before + 1}{ADVICE}")
    word, tag = cells[1], cells[CONLLU[column]]
    if not word.strip() or tag in ("", "_"):
        return BadText(place, f"has no {column.upper() if word.strip() else 'word'}", ADVICE)
    return word, tag


def _word_and_tag(
    place: str, line: str, before: int, separator: str | None, width: int
) -> tuple[str, str] | BadText | None:
    """A row of a word, perhaps more, and a tag."""
    cells = line.split(separator)
    if cells[0] == DOCSTART or (separator and line[0] == "#" and separator not in line):  # a comment
        return None
    if len(cells) != width or width < 2:
        return BadText(place, f"has not {max(2, width)} columns", f" but {len(cells)}{ADVICE}")
    if not (cells[0].strip() and cells[-1].strip()):
        return BadText(place, "has an empty column", ADVICE)
    return cells[0].strip(), cells[-1].strip()


# Proteins


def _proteins(root: Path | None) -> TaggedText:
    chains: dict[str, list[tuple[str, NDArray[np.int64]]]] = {"train": [], "valid": [], "test": [], "cb513": []}
    for row in _cells(find_published(FLIP, root), ["split", "sequence", "q3", "resolved"]):
        part, sequence, structure, resolved = row
        chains[part].append((sequence, _structure(structure, resolved)))
    for sequence, structure, *masks in _cells(find_published(CB513, root), ["sequence", "q3", "resolved", "mask"]):
        chains["cb513"].append((sequence, _structure(structure, *masks)))
    train, held_out, new364, cb513 = (Tagged(*map(list, zip(*part, strict=True))) for part in chains.values())
    return TaggedText(
        name="protein_ss",
        train=train,
        validation=held_out,
        tests={"new364": new364, "cb513": cb513},
        names=STRUCTURE,
        unit="characters",
        note=HOMOLOGY,
    )


def _cells(file: Document, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return (row.cells for row in records(file, names) if isinstance(row, Row))


def _structure(structure: str, *masks: str) -> NDArray[np.int64]:
    """The numbers of the tags of a chain, IGNORED where one of the masks has a 0: int64 (T,)."""
    counted = np.logical_and.reduce([_characters(mask) == b"1" for mask in masks])
    return np.where(counted, np.searchsorted(np.array(STRUCTURE, "S1"), _characters(structure)), IGNORED)


def _characters(text: str) -> NDArray[np.bytes_]:
    return np.frombuffer(text.encode(), "S1")
