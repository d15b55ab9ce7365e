"""From a name or a file to trajectories."""

from __future__ import annotations

from pathlib import Path

from core.files.downloads import data_root
from decision.data.sources import D4RL, MINARI, read_d4rl, read_minari
from decision.data.store import Trajectories

ACCEPTED = f"a file that decision.collect wrote, {MINARI}NAME-vN, or a .hdf5 file of D4RL's"


def load_data(name: str | Path, root: Path | None = None) -> Trajectories:
    """The data set of a name.

    - a file that `decision.collect` wrote, as a path or as a path under `root` (default: `data_root()`);
    - `minari:NAME`, a Minari data set, which is downloaded unless it is installed;
    - a `.hdf5` file of D4RL's.

    Raises ValueError of one sentence: there is no such data, or it is damaged.
    """
    if str(name).startswith(MINARI):
        return read_minari(str(name).removeprefix(MINARI))
    path = Path(name).expanduser()
    path = path if path.exists() else (root or data_root()) / path
    if str(name) and path.is_dir():
        raise ValueError(f"{path} is a folder; accepted are: {ACCEPTED}")
    if not path.is_file():
        raise ValueError(f"there is no data {str(name)!r}; accepted are: {ACCEPTED}")
    return read_d4rl(path) if path.suffix.lower() in D4RL else Trajectories.load(path)
