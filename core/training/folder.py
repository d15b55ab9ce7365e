"""The run folder: a new run needs one without anything in it, and a resumed run the one with its own configuration."""

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from core.cli.arguments import program
from core.cli.exits import Interrupted
from core.files.serialize import to_dict
from core.training.checkpoints import Checkpoints, read_config
from core.training.config import BUDGETS, RunConfig

C = TypeVar("C", bound=RunConfig)

TRACES = ("config.json", "metrics.jsonl", "checkpoints")
LOGS = (".log", ".out", ".err")
"""Endings of files that a shell or a scheduler may have put into a run folder before the run begins."""


def is_run_folder(folder: Path) -> bool:
    """Whether a folder holds a run: its files are never data."""
    return (folder / TRACES[0]).is_file() and any((folder / trace).exists() for trace in TRACES[1:])


def open_folder(config: RunConfig) -> list[str]:
    """Makes `config.out` for a new run, or checks that `config` may go on with the run in it.

    Returns sentences about what is learned differently from there on. Raises ValueError when the folder holds a run
    and `resume` is off, holds none and it is on, holds one trained with other settings, or holds other files; OSError
    when it cannot be written.
    """
    out = config.out
    if config.resume:
        notes = _changes(config)
        Checkpoints(out).clean()
        return notes
    if any((out / trace).exists() for trace in TRACES):
        raise ValueError(f"{out} already holds a run; go on with --resume, or take another --out")
    foreign = sorted(p.name for p in out.iterdir() if not _may_lie_there(p)) if out.is_dir() else []
    if foreign:
        raise ValueError(f"{out} is not empty: it holds {foreign[0]!r}; take a new folder as --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".probe").touch()
        (out / ".probe").unlink()
    except OSError as error:
        raise OSError(error.errno, f"no run can be written there: {error.strerror}", str(out)) from error
    return []


def as_restarted(config: C) -> C:
    """The configuration, with `resume` where its run has begun and the launcher restarts processes.

    `torchrun --max-restarts` starts the same command again, after a failure and when machines come or go.
    """
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    begun = restarts > 0 and (config.out / TRACES[0]).is_file()
    return replace(config, resume=True) if begun else config


def resume_point(config: RunConfig) -> Path | None:
    """The checkpoint to go on from; None for a new run, and for one that was killed before its first."""
    checkpoints = Checkpoints(config.out)
    if not config.resume or not checkpoints.steps():
        return None
    return checkpoints.find(config.checkpoint)


def last_saved(checkpoints: Checkpoints) -> str:
    """What a run that cannot go on leaves, in words."""
    steps = checkpoints.steps()
    return f"the last good checkpoint is {checkpoints.path(steps[-1])}" if steps else "nothing was saved yet"


def interrupted(step: int, folder: Path | None) -> Interrupted:
    """What ends a run that is saved and can go on; it says how, if it is given the folder."""
    again = shlex.join(["python", *program(), "--out", str(folder), "--resume"])
    return Interrupted(f"interrupted at step {step}, which is saved; go on with: {again}" if folder else "")


def _may_lie_there(path: Path) -> bool:
    return path.name.startswith(".") or (path.is_file() and path.suffix in LOGS)


def _changes(config: RunConfig) -> list[str]:
    """What differs from the run that is resumed, as far as it matters; ValueError for what makes it another run."""
    saved, now, notes = to_dict(read_config(config.out, type(config))), to_dict(config), []
    for field, was, is_now in differences(saved, now):
        if field not in config.resumable:
            raise ValueError(
                f"{config.out} was trained with {field} = {was!r}, not {is_now!r}; keep it, or take another --out"
            )
    before, after = ({name: values.get(name) for name in BUDGETS if values.get(name)} for values in (saved, now))
    if before != after:
        budgets = (", ".join(f"{name} = {value:,}" for name, value in budget.items()) for budget in (before, after))
        notes.append("the budget was {}, and is {}: the learning rate follows another schedule".format(*budgets))
    if saved.get("accumulate") != now["accumulate"]:
        notes.append(f"accumulate was {saved.get('accumulate')}, and is {now['accumulate']}: sums round differently")
    return notes


def differences(saved: Mapping[str, Any], now: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted fields that differ between two `to_dict`s, with both values."""
    for name, value in now.items():
        was = saved.get(name)
        if was == value:
            continue
        if isinstance(was, Mapping) and isinstance(value, Mapping):
            yield from differences(was, value, f"{at}{name}.")
        else:
            yield f"{at}{name}", was, value
