"""What a command that uses a model is given: its settings, and texts in its words, in a file, or on standard input."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.checks import check_choices
from core.cli.arguments import run_folder
from core.devices import keep_freed_memory, resolve_precision
from text.corpus.documents import BadText, Document, lines
from text.trained import Trained

CLITICS = r"(?:n't|'(?:s|re|ve|ll|d|m))\b"
WORD = re.compile(rf"\w+?(?={CLITICS})|{CLITICS}|\w+(?:[.,'@&]\w+)*|(\W)\1*(?<!\s)", re.IGNORECASE)
"""A word, what is joined to it in English (do|n't, it|'s), or punctuation marks of one kind."""


@dataclass(frozen=True, kw_only=True)
class UseOptions:
    """The settings that every command that uses a text model shares."""

    checkpoint: str = "best"
    """best, last, last-good, a step, or last-K for the mean of the last K checkpoints."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to run the model."""

    def __post_init__(self) -> None:
        check_choices(self)


Precision = Literal["auto", "fp32", "bf16"]


def ready_model(trained: Trained, precision: Precision) -> Any:
    """The model of a command, its weights in a precision, for many batches. ValueError where the device lacks it."""
    keep_freed_memory()
    half = resolve_precision(precision, trained.device.type) == "bf16"
    return trained.model.bfloat16() if half else trained.model


def given_words(argv: list[str], command: str) -> tuple[Path, list[str], list[str]]:
    """The folder that begins a command line, the texts behind it, and the options."""
    name, rest = run_folder(argv, command)
    count = next((place for place, word in enumerate(rest) if word.startswith("--")), len(rest))
    return name, rest[:count], rest[count:]


def texts_of(words: Sequence[str], file: Path | None) -> Iterator[str]:
    """Texts of the command, of a file, or of standard input, one a line, without empty ones.

    Raises ValueError for texts in the command beside a file, for one that is empty, and for a file that cannot be read.
    """
    if words and file is not None:
        raise ValueError(f"file = {file}: texts are in the command already")
    if any(not word.strip() for word in words):
        raise ValueError("a text in the command is empty; was a variable not set?")
    if file is not None and not file.is_file():
        raise ValueError(f"file = {str(file)!r} is not a file")
    given = iter(words) if words else sys.stdin if file is None else _lines(file)
    return filter(None, map(str.strip, given))


def _lines(file: Path) -> Iterator[str]:
    for line in lines(Document(str(file), file)):
        if isinstance(line, BadText):
            raise line
        yield line


def split_words(text: str) -> list[str]:
    """The words of a text, punctuation marks by themselves, and English clitics: do n't, it 's."""
    return [found[0] for found in WORD.finditer(text)]
