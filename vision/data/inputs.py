"""The images that a command line names: which files they are, and their pixels."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from core.cli.arguments import named_path, run_folder
from core.messages import notice
from vision.data.files import IMAGES, Media, read_stored
from vision.data.folder import Walk, first_few
from vision.data.preparation import Preparation
from vision.data.reading import report_unseen


class Reader:
    """Reads image files as a model's preparation says, and collects why others cannot be read."""

    def __init__(self, preparation: Preparation, skip_bad: bool):
        self.preparation, self.skip_bad = preparation, skip_bad
        self.bad: dict[Path, str] = {}

    def read(self, files: Sequence[Path]) -> Iterator[tuple[Path, Tensor]]:
        """Each file with its pixels, uint8 (C, H, W); a notice at the end counts what is not seen of them.

        One that cannot be read raises ValueError or, with skip_bad, is counted in a notice as well. ValueError where
        none could be read.
        """
        shown = []
        for file in files:
            try:
                stored = read_stored(file, self.preparation.layout)
            except (ValueError, OSError) as error:
                reason = f"{file} cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
                if not self.skip_bad:
                    raise ValueError(f"{reason}; --skip-bad leaves it out") from error
                self.bad[file] = reason
            else:
                shown.append(stored.shown)
                yield file, stored.pixels
        media = self.preparation.layout.media
        if self.bad:
            count = f"{len(self.bad):,} of {len(files):,} {media.plural} cannot be read"
            reasons = first_few(list(self.bad.values()))
            if len(self.bad) == len(files):
                raise ValueError(f"{count}: {reasons}")
            notice(f"{count} and are left out: {reasons}")
        report_unseen(sum(shown) / len(shown), f"these {media.plural}", media)


def run_folder_and_images(argv: list[str], command: str) -> tuple[Path, list[str], list[str]]:
    """`DIR IMAGE... [options]` in its three parts. Raises ValueError when no image is named."""
    folder, rest = run_folder(argv, command)
    first_option = next((i for i, word in enumerate(rest) if word.startswith("-")), len(rest))
    images, options = rest[:first_option], rest[first_option:]
    if not images and {"-h", "--help"}.isdisjoint(options):
        raise ValueError(f"name images after the run folder: python -m {command} DIR IMAGE... [options]")
    return folder, [str(named_path(image, "IMAGE")) for image in images], options


def find_images(words: Sequence[str], skip_bad: bool = False, media: Media = IMAGES) -> list[Path]:
    """The files that words name, each once: a file as it is; of a folder or a pattern, what ends like `media`.

    Of a folder, `vision.data.folder.Walk` finds them. Raises ValueError for a word that names nothing, and for a folder
    that cannot be read, unless it is skipped.
    """
    return list(dict.fromkeys(file for word in words for file in _named_by(word, skip_bad, media)))


def _named_by(word: str, skip_bad: bool, media: Media) -> list[Path]:
    path = Path(word).expanduser()
    if path.is_dir():
        walk = Walk(media)
        images = sorted(walk.below(path))
        if walk.unreadable and not skip_bad:
            raise ValueError(f"{first_few(walk.unreadable)}; --skip-bad leaves out what cannot be read")
        walk.notice(path)
    elif path.exists() or path.is_symlink():
        return [path]
    elif glob.has_magic(word):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
        images = sorted(match for match in matches if match.suffix.lower() in media.suffixes and match.is_file())
    else:
        raise ValueError(f"{word}: no such file or folder")
    if not images:
        raise ValueError(f"{word} names no {media.plural}: they end in {' '.join(media.suffixes)}")
    return images
