"""What two runs measured and learned, beside each other, bit for bit.

Reads run folders by their files alone, not by the code that wrote them, so that those of two versions can be compared.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

LOSSES = ("train/loss", "train/grad_norm")
CLOCK = re.compile(r"second|time")
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Difference:
    """How far two sets of named tensors are apart.

    largest: absolute difference; infinite where a name, a shape or a NaN is on one side only.
    count: how many names differ. first: what is to say of the first of them, "" where all are equal.
    """

    largest: float
    count: int
    first: str

    @property
    def equal(self) -> bool:
        """Whether every bit is."""
        return not self.count


def compare(a: Tensors, b: Tensors) -> Difference:
    """Two sets of named tensors, by their names; zeros of different sign and equal numbers of other types differ.

    Two sets of nothing differ as well: then what was to be compared was not found.
    """
    if not a and not b:
        return Difference(math.inf, 1, "nothing is there on either side")
    found = {name: _gap(a.get(name), b.get(name)) for name in {**a, **b}}
    apart = {name: gap for name, gap in found.items() if gap is not None}
    first = next((f"{name}: {_told(a.get(name), b.get(name))}" for name in apart), "")
    return Difference(max(apart.values(), default=0.0), len(apart), first)


def _gap(a: Tensor | None, b: Tensor | None) -> float | None:
    """The largest absolute difference; None where all bits are equal."""
    if a is None or b is None or a.shape != b.shape:
        return math.inf
    if a.dtype == b.dtype and torch.equal(_bits(a), _bits(b)):
        return None
    x, y = a.double(), b.double()
    gaps = (x - y).abs().masked_fill((x == y) | (x.isnan() & y.isnan()), 0.0)
    return gaps.nan_to_num(nan=math.inf, posinf=math.inf).max().item() if gaps.numel() else 0.0


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def _told(a: Tensor | None, b: Tensor | None) -> str:
    """How a tensor differs, in a few words."""
    if a is None or b is None:
        return f"only in {'A' if b is None else 'B'}"
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{_kind(a)} and {_kind(b)}"
    return f"{a.item()!r} and {b.item()!r}" if a.dim() == 0 else f"{int((a != b).sum())} of {a.numel()} numbers differ"


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


# ---------------------------------------------------------------------------------------------- files


def losses(run: Path) -> dict[str, Tensor]:
    """Every loss and norm of the gradients of a run: float64 (), NaN where it was not finite."""
    return {name: value for name, value in _measured(run) if name.partition(" ")[0] in LOSSES}


def evaluations(run: Path) -> dict[str, Tensor]:
    """Every figure of every evaluation but clocks: float64 (); and the bytes of samples, uint8 (N,)."""
    figures = {name: value for name, value in _measured(run) if name.startswith("val/") and not CLOCK.search(name)}
    samples = {f"samples/{file.name}": list(file.read_bytes()) for file in sorted(run.glob("samples/*"))}
    return figures | {name: torch.tensor(text, dtype=torch.uint8) for name, text in samples.items()}


def _measured(run: Path) -> Iterator[tuple[str, Tensor]]:
    """The numbers of metrics.jsonl, each under "NAME at step N"; none where there is no such file."""
    file = run / "metrics.jsonl"
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        values: dict[str, Any] = json.loads(line)
        for name, value in values.items():
            if value is None or isinstance(value, int | float):
                number = math.nan if value is None else float(value)
                yield f"{name} at step {values['step']}", torch.tensor(number, dtype=torch.float64)


def weights(run: Path, renamed: Iterable[tuple[str, str]] = ()) -> dict[str, Tensor]:
    """All tensors of the last checkpoint, tied ones under all names, each as "FILE: NAME".

    renamed: regular expressions and what takes the place of their matches in names, one after another. Raises
    ValueError for two tensors that end up under one name.
    """
    found: dict[str, Tensor] = {}
    for file in sorted(_last_checkpoint(run).glob("*.safetensors")):
        for name, tensor in _read(file).items():
            for old, new in renamed:
                name = re.sub(old, new, name)
            if f"{file.stem}: {name}" in found:
                raise ValueError(f"renamed gives two tensors the name {name!r}")
            found[f"{file.stem}: {name}"] = tensor
    return found


def _last_checkpoint(run: Path) -> Path:
    """The folder of tensors of the latest step; `run` itself where there is none."""
    folders = {file.parent for file in run.rglob("*.safetensors")}
    return max(folders, key=lambda folder: int("0" + re.sub(r"\D", "", folder.name)), default=run)


def _read(file: Path) -> dict[str, Tensor]:
    from safetensors import safe_open

    with safe_open(file, framework="pt", device="cpu") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        tied = json.loads((opened.metadata() or {}).get("tied", "{}"))
    return tensors | {name: tensors[kept] for name, kept in tied.items()}


def arrays(file: Path) -> dict[str, Tensor]:
    """The arrays of numbers in an .npz file, each under its name."""
    with np.load(file, allow_pickle=False) as archive:
        found = {name: np.asarray(archive[name]) for name in archive.files}
    return {name: torch.from_numpy(value) for name, value in found.items() if value.dtype.kind in "biuf"}
