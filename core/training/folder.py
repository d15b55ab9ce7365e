"""The run folder: a new run needs one without a run, and a resumed run the one with its own configuration."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.files.serialize import to_dict
from core.training.checkpoints import Checkpoints, read_config
from core.training.config import RunConfig

FREE = frozenset(
    "out resume checkpoint steps minutes log_every save_every eval_every keep tracker device compile".split()
)
"""Settings that may change when a run is resumed; any other would make it a different run."""
TRACES = ("config.json", "metrics.jsonl", "checkpoints")


def open_folder(config: RunConfig) -> None:
    """Makes `config.out` for a new run, or checks that `config` may go on with the run in it.

    Raises ValueError when the folder holds a run and `resume` is off, holds none and it is on, or holds one
    trained with other settings; OSError when it cannot be written.
    """
    out = config.out
    if config.resume:
        saved = to_dict(read_config(out, type(config)))
        for field, was, now in _differences(saved, to_dict(config)):
            raise ValueError(f"{out} was trained with {field} = {was!r}, not {now!r}; keep it, or take another --out")
        Checkpoints(out).clean()
        return
    if any((out / trace).exists() for trace in TRACES):
        raise ValueError(f"{out} already holds a run; go on with --resume, or take another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".probe").touch()
        (out / ".probe").unlink()
    except OSError as error:
        raise OSError(error.errno, f"no run can be written there: {error.strerror}", str(out)) from error


def resume_point(config: RunConfig) -> Path | None:
    """The checkpoint to go on from; None for a new run, and for one that was killed before its first."""
    checkpoints = Checkpoints(config.out)
    if not config.resume or not checkpoints.steps():
        return None
    return checkpoints.find(config.checkpoint)


def _differences(saved: Mapping[str, Any], now: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted fields outside FREE that differ between two `to_dict`s, with both values."""
    for name, value in now.items():
        was = saved.get(name)
        if (not at and name in FREE) or was == value:
            continue
        if isinstance(was, Mapping) and isinstance(value, Mapping):
            yield from _differences(was, value, f"{at}{name}.")
        else:
            yield f"{at}{name}", was, value
