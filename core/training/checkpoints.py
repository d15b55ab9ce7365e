"""Checkpoints that are whole or absent: written beside their place, hashed, renamed, and verified before use.

A run folder holds

    config.json                       everything needed to rebuild the model
    metrics.jsonl                     what was measured
    checkpoints/best.json             which step is the best so far, and by what: a copy, to look it up
    checkpoints/step-00001000/        model, optimizer, [ema].safetensors, or a folder of shards for each of them;
                                      state (and in it what was best), rng-0, ..., manifest.json

Nothing in it is pickled, so nothing in it can execute code when loaded.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from glob import has_magic
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from torch import Tensor

from core.cli.exits import NotSaved
from core.files.atomic import atomic_write, remove, sha256
from core.files.json_files import as_json, read_json, write_json
from core.files.serialize import T, from_dict
from core.scale.parts import has_part, read_part, write_part

FORMAT = 2
MANIFEST = "manifest.json"
STATE = "state.json"
BEST = "best.json"
Kinds = type[T] | Mapping[str, type[T]]
"""The class of a configuration, or the classes by the names of their tasks."""
NAMES_OR_PATHS = ("data", "validation_data", "init_from")
"""Fields in which a word without a separator is a path as well, if there is such a file."""


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, run_folder: Path):
        self.folder = run_folder / "checkpoints"

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order; undamaged or not."""
        names = (path.name for path in self.folder.iterdir()) if self.folder.is_dir() else ()
        return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d{8,})", name)))

    def path(self, step: int) -> Path:
        """Where the checkpoint of `step` is, or would be."""
        return self.folder / f"step-{step:08d}"

    def clean(self) -> None:
        """Removes what a killed process left half-written."""
        for stale in self.folder.glob(".*.part"):
            remove(stale)

    @contextmanager
    def writing(self, step: int, objects: Mapping[str, Any]) -> Iterator[Path]:
        """A folder for the body to write the tensors of `step` into. With files `NAME.json` of the objects, it then
        becomes the checkpoint: all of it or nothing.

        Raises NotSaved, leaving earlier checkpoints as they were, when the disk is full or gone.
        """
        target = self.path(step)
        with self.reporting(step), atomic_write(target) as aside:
            aside.mkdir()
            yield aside
            for name, value in objects.items():
                (aside / f"{name}.json").write_text(as_json(value), encoding="utf-8")
            written = sorted(path for path in aside.rglob("*") if path.is_file())
            files = {path.relative_to(aside).as_posix(): _fingerprint(path) for path in written}
            (aside / MANIFEST).write_text(as_json(_sealed({"step": step, "files": files})), encoding="utf-8")
            remove(target)  # only ever a damaged one, from which the run did not go on

    def write(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], objects: Mapping[str, Any]) -> Path:
        """Writes files `NAME.safetensors` and `NAME.json` as the checkpoint of `step`, as `writing` does."""
        with self.writing(step, objects) as folder:
            for name, group in tensors.items():
                write_part(folder, name, group)
        return self.path(step)

    @contextmanager
    def reporting(self, step: int) -> Iterator[None]:
        """Inside, what cannot be written becomes NotSaved."""
        from safetensors import SafetensorError

        try:
            yield
        except (OSError, SafetensorError) as error:
            raise NotSaved(f"no checkpoint of step {step}: {error}; the earlier ones are intact") from error

    def point_at_best(self, best: Mapping[str, Any] | None) -> None:
        """Writes down for others which step is the best so far: {"step", "metric", "value"}; None removes the file."""
        if best is None:
            (self.folder / BEST).unlink(missing_ok=True)
        else:
            write_json(self.folder / BEST, best)

    def best(self) -> dict[str, Any] | None:
        """{"step", "metric", "value"} of the best so far, as the newest checkpoint records it; None if there is none.

        Raises ValueError where that record is missing or damaged: the best cannot be told from the others.
        """
        steps = self.steps()
        if not steps or STATE not in verify(self.path(steps[-1]), only=STATE):
            return None
        best: dict[str, Any] | None = read_json(self.path(steps[-1]) / STATE).get("best")
        return best

    def prune(self, newest: int, keep: int, best: int | None) -> None:
        """Removes all but the best and the newest `keep`; those after `newest`, of which the run did not go on, too."""
        steps = [step for step in self.steps() if step <= newest]
        for step in set(self.steps()) - {*steps[-keep:], best}:
            doomed = self.path(step).rename(self.folder / f".step-{step:08d}.removed.part")
            remove(doomed)

    def find(self, which: str | int = "last") -> Path:
        """The folder of a checkpoint; ValueError when there is none.

        `which`: "last", "best" (the last, where nothing was evaluated), "last-good" (the newest that passes
        `verify`), or a step. Raises ValueError as well where the best is gone or not known.
        """
        steps = self.steps()
        if not steps:
            raise ValueError(f"{self.folder.parent} holds no checkpoint")
        if which == "last":
            return self.path(steps[-1])
        if which == "best":
            return self._find_best(steps)
        if which == "last-good":
            return self._last_good(steps)
        if not str(which).isdecimal() or int(which) not in steps:
            raise ValueError(
                f"checkpoint = {which!r} is not one of: last, best, last-good, last-K, {', '.join(map(str, steps))}"
            )
        return self.path(int(which))

    def find_all(self, which: str | int = "last") -> list[Path]:
        """The folders of the checkpoints that are meant, oldest first: the last K for "last-K", else one, as `find`.

        Raises ValueError where there are fewer.
        """
        if (match := re.fullmatch(r"last-([1-9]\d*)", str(which))) is None:
            return [self.find(which)]
        steps, count = self.steps(), int(match[1])
        if len(steps) < count:
            raise ValueError(
                f"checkpoint = {which!r} averages {count}, of which {self.folder.parent} holds {len(steps)}: train "
                f"with --keep {count} and a --save-every that leaves so many"
            )
        return [self.path(step) for step in steps[-count:]]

    def _find_best(self, steps: list[int]) -> Path:
        best = self.best()
        if best is None:
            return self.path(steps[-1])
        if best["step"] not in steps:
            there = ", ".join(map(str, steps))
            raise ValueError(f"{self.path(best['step'])}, the best checkpoint, is gone; name another: {there}")
        return self.path(best["step"])

    def _last_good(self, steps: list[int]) -> Path:
        reason = ""
        for step in reversed(steps):
            try:
                verify(self.path(step))
                return self.path(step)
            except ValueError as error:
                reason = reason or str(error)
        raise ValueError(f"{self.folder.parent} holds no undamaged checkpoint; the last: {reason}")


def verify(checkpoint: Path, only: str | None = None) -> list[str]:
    """Reads every file of a checkpoint, or only one, against its manifest; returns the names of all.

    Raises ValueError naming the first file that is missing, cut, changed or of another format.
    """
    advice = "; go on from an earlier one with --checkpoint last-good"
    manifest = checkpoint / MANIFEST
    if not manifest.is_file():
        raise ValueError(f"{checkpoint} is not a checkpoint: it has no {MANIFEST}{advice}")
    try:
        record = read_json(manifest)
    except ValueError as error:
        raise ValueError(f"{error}{advice}") from error
    check_format(manifest, record)
    if record != _sealed(record):
        raise ValueError(f"{manifest} is damaged: its own SHA-256 does not fit{advice}")
    if checkpoint.name != f"step-{record['step']:08d}":
        raise ValueError(f"{checkpoint} holds the checkpoint of step {record['step']}{advice}")
    for name, expected in record["files"].items():
        path = checkpoint / name
        if only not in (None, name):
            continue
        if not path.is_file():
            raise ValueError(f"{path} is missing{advice}")
        if (size := path.stat().st_size) != expected["size"]:
            raise ValueError(f"{path} holds {size} bytes instead of {expected['size']}{advice}")
        if _fingerprint(path) != expected:
            raise ValueError(f"{path} is damaged: its SHA-256 is not the one it was written with{advice}")
    return list(record["files"])


def load_weights(
    run_folder: Path, which: str | int = "best", kind: Literal["averaged", "raw"] = "averaged"
) -> dict[str, Tensor]:
    """The weights of a checkpoint, or the mean of several (`Checkpoints.find_all`), as `mean_weights` gives them."""
    return mean_weights(Checkpoints(run_folder).find_all(which), kind)


def mean_weights(checkpoints: Sequence[Path], kind: Literal["averaged", "raw"] = "averaged") -> dict[str, Tensor]:
    """The verified weights of checkpoints, oldest first, for use: their mean in float32 (Vaswani 2017, 6.1).

    kind: averaged ones (`--ema`) where the run kept them, or those it trained. What is no float is that of the last.
    """
    last, *earlier = reversed(checkpoints)
    weights = _read_weights(last, kind)
    if not earlier:
        return weights
    sums = {name: tensor.float() for name, tensor in weights.items() if tensor.is_floating_point()}
    for checkpoint in earlier:
        own = _read_weights(checkpoint, kind)
        sums = {name: total + own[name] for name, total in sums.items()}
    return weights | {name: (total / len(checkpoints)).type_as(weights[name]) for name, total in sums.items()}


def _read_weights(checkpoint: Path, kind: Literal["averaged", "raw"]) -> dict[str, Tensor]:
    verify(checkpoint)
    weights = read_part(checkpoint, "model")
    return weights | read_part(checkpoint, "ema") if kind == "averaged" and has_part(checkpoint, "ema") else weights


def write_config(run_folder: Path, config: Mapping[str, Any], task: str = "") -> None:
    """Records `to_dict(config)` as `config.json`, with the format of the folder and the place of relative paths.

    task: by which `read_config` knows the class of the configuration, where a panel has several
    """
    named = {"task": task} if task else {}
    write_json(run_folder / "config.json", {"format": FORMAT, **named, "config": config, "relative_to": os.getcwd()})


def read_config(run_folder: Path, kinds: Kinds[T]) -> T:
    """The configuration a run was made with; ValueError when there is none or it is of another version.

    kinds: its class, or that of each task; the first where the folder names no task

    Relative paths in it that led to something from where the run was started are absolute when read from elsewhere.
    """
    path = run_folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{run_folder} is not a run folder: it has no config.json")
    record = read_json(path)
    check_format(path, record)
    try:
        config = from_dict(_kind(kinds, record.get("task")), record.get("config", {}))
        return _anchored(config, record.get("relative_to", os.getcwd()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _kind(kinds: Kinds[T], task: str | None) -> type[T]:
    """The class of the configurations of a task."""
    if not isinstance(kinds, Mapping):
        return kinds
    name = task or next(iter(kinds))
    if name not in kinds:
        raise ValueError(f"task = {name!r} is not one of: {', '.join(kinds)}")
    return kinds[name]


def _anchored(config: T, place: str) -> T:
    if place == os.getcwd():
        return config
    values = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "out"}  # type: ignore[arg-type]
    hints = get_type_hints(type(config))
    found = {name: _found_from(place, value, name in NAMES_OR_PATHS) for name, value in values.items()}
    changes = {name: value for name, value in found.items() if _may_be_paths(hints[name]) and value != values[name]}
    return replace(config, **changes) if changes else config  # type: ignore[type-var]


def _may_be_paths(hint: Any) -> bool:
    return hint in (str, Path) or any(map(_may_be_paths, get_args(hint)))


def _found_from(place: str, value: Any, bare: bool) -> Any:
    """A relative path as an absolute one if it leads somewhere from `place`; `bare`: even if it is only a name."""
    if isinstance(value, tuple):
        return tuple(_found_from(place, each, bare) for each in value)
    if not isinstance(value, str | Path) or not str(value).strip("."):
        return value
    plain = re.split(r"[*?\[]", str(value))[0].rpartition("/")[0] if has_magic(str(value)) else str(value)
    there = Path(place, plain).exists() and (bare or len(Path(value).parts) > 1)
    return type(value)(os.path.join(place, value)) if there else value


def check_format(path: Path, record: Mapping[str, Any]) -> None:
    """Raise ValueError unless a file of a run folder has the format that this version reads."""
    if (found := record.get("format")) != FORMAT:
        raise ValueError(
            f"{path} has format {found!r}, not {FORMAT}: it was written by another version; train it anew, or use it "
            "with the version that wrote it"
        )


def _sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with its format and a hash of itself, so that damage to it is not taken for damage to a file."""
    content = {name: record.get(name) for name in ("step", "files")}
    seal = hashlib.sha256(as_json(content).encode()).hexdigest()
    return {"format": FORMAT, **content, "seal": seal}


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": sha256(path)}
