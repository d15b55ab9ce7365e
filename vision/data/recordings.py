"""The Free Spoken Digit Dataset, whose file names tell digit, speaker and take: 7_theo_3.wav.

`fsdd` has its official parts: takes 0 to 4 are for testing. `fsdd:theo` has no take of theo's to train on, and all of
them to test: how well digits are known from a voice that was never heard.
"""

import re
from pathlib import Path

from core.messages import nearest
from vision.data.files import SOUNDS
from vision.data.folder import Listing, Part, Skip, Walk, listing_of

FSDD = "fsdd"
HOME = "github.com/Jakobovski/free-spoken-digit-dataset"
NAMED = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav", re.IGNORECASE)
TEST_TAKES = 5


def is_fsdd(name: str) -> bool:
    """Whether --data names it."""
    return name.partition(":")[0] == FSDD


def list_fsdd(name: str, part: Part, root: Path, bad: Skip = "refuse") -> Listing | None:
    """The recordings of a part, by digit; None for validation, which it has none of.

    name: fsdd, or fsdd:SPEAKER. Raises ValueError where its files are missing, or nobody is called so.
    """
    folder = root / FSDD / "recordings"
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is missing: put the recordings of {HOME} there, or name a folder of your own sounds, "
            f"ROOT/CLASS/*.wav"
        )
    if part == "validation":
        return None
    walk = Walk(SOUNDS)
    found = [(path, match.groups()) for path in sorted(walk.below(folder)) if (match := NAMED.fullmatch(path.name))]
    speakers = sorted({speaker for _, (_, speaker, _) in found})
    _, colon, left_out = name.partition(":")
    if colon and left_out not in speakers:
        raise ValueError(f"data = {name!r}: nobody in {folder} is called {left_out!r}; {nearest(left_out, speakers)}")
    classes: dict[str, list[Path]] = {str(digit): [] for digit in range(10)}
    for path, (digit, speaker, take) in found:
        tested = speaker == left_out if colon else int(take) < TEST_TAKES
        if tested == (part == "test"):
            classes[digit].append(path)
    return listing_of(folder, classes, walk, bad)
