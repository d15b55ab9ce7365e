"""The images that a command line names: which files they are, and their pixels."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from core.cli.arguments import run_folder
from core.messages import notice
from vision.data.files import SUFFIXES
from vision.data.folder import files_below, first_few
from vision.data.preparation import Preparation


class Reader:
    """Reads image files as a model's preparation says, and collects why others cannot be read."""

    def __init__(self, preparation: Preparation, skip_bad: bool):
        self.preparation, self.skip_bad = preparation, skip_bad
        self.bad: dict[Path, str] = {}

    def read(self, files: Sequence[Path]) -> Iterator[tuple[Path, Tensor]]:
        """Each file with its pixels, uint8 (C, side, side).

        One that cannot be read raises ValueError or, with skip_bad, is counted in a notice at the end. ValueError
        where none could be read.
        """
        for file in files:
            try:
                pixels = self.preparation.read(file)
            except (ValueError, OSError) as error:
                reason = f"{file} cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
                if not self.skip_bad:
                    raise ValueError(f"{reason}; --skip-bad leaves it out") from error
                self.bad[file] = reason
            else:
                yield file, pixels
        if self.bad:
            count = f"{len(self.bad):,} of {len(files):,} images cannot be read"
            reasons = first_few(list(self.bad.values()))
            if len(self.bad) == len(files):
                raise ValueError(f"{count}: {reasons}")
            notice(f"{count} and are left out: {reasons}")


def run_folder_and_images(argv: list[str], command: str) -> tuple[Path, list[str], list[str]]:
    """`DIR IMAGE... [options]` in its three parts. Raises ValueError when no image is named."""
    folder, rest = run_folder(argv, command)
    first_option = next((i for i, word in enumerate(rest) if word.startswith("-")), len(rest))
    images, options = rest[:first_option], rest[first_option:]
    if not images and {"-h", "--help"}.isdisjoint(options):
        raise ValueError(f"name images after the run folder: python -m {command} DIR IMAGE... [options]")
    return folder, images, options


def find_images(words: Sequence[str]) -> list[Path]:
    """The files that words name, each once: a file as it is; of a folder or a pattern, what ends in SUFFIXES.

    Raises ValueError for a word that names nothing.
    """
    return list(dict.fromkeys(file for word in words for file in _named_by(word)))


def _named_by(word: str) -> list[Path]:
    path = Path(word)
    if path.is_dir():
        candidates = [file for file in files_below(path) if not file.name.startswith(".")]
    elif path.exists():
        return [path]
    elif glob.has_magic(word):
        candidates = [Path(match) for match in glob.glob(word, recursive=True)]
    else:
        raise ValueError(f"{word}: no such file or folder")
    images = [file for file in candidates if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not images:
        raise ValueError(f"{word} names no images: they end in {' '.join(SUFFIXES)}")
    return sorted(images)
