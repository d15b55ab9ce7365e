"""The runs of all panels, found by what their folders hold, with a name each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.explorer.agents import describe_agent
from benchmarks.explorer.described import Described
from benchmarks.explorer.images import describe_images
from benchmarks.explorer.packing import Format, Packed, chosen_format, pack, rounding_error
from benchmarks.explorer.texts import describe_text
from decision.trained import load as load_agent
from text.trained import load_any as load_text
from vision.trained import load as load_images

PARTS = {"images.json": "vision", "trajectories.json": "decision"}
"""A file that tells apart the run folders of the panels; those of text need none."""


@dataclass(frozen=True)
class Wanted:
    """How runs become parts of the page."""

    checkpoint: str = "best"
    prompt: str = ""
    weights: Format | Literal["auto"] = "auto"


@dataclass(frozen=True)
class Run:
    """A model of the page: its name, what the page is told, its weights, and how far their rounding moves logits."""

    name: str
    described: Described
    packed: Packed
    change: float

    def header(self) -> dict[str, Any]:
        """All but the weights, as JSON values."""
        d, p = self.described, self.packed
        own = {"name": self.name, "kind": d.kind, "panel": d.panel, "format": p.format, "change": self.change}
        return own | {"tensors": p.index, "parameters": parameters(d)} | dict(d.said)


def parameters(described: Described) -> int:
    """Trained numbers of a model."""
    return sum(p.numel() for p in described.model.parameters())


def read_runs(folders: Sequence[str], wanted: Wanted) -> list[Run]:
    """The runs for a page.

    Raises ValueError for a folder given twice, one that holds no run, and what the page does not know, by name.
    """
    twice = [folder for folder, count in Counter(str(Path(f).resolve()) for f in folders).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice: name each run once")
    return [read_run(folder, name, wanted) for folder, name in zip(folders, names(folders), strict=True)]


def read_run(folder: str, name: str, wanted: Wanted) -> Run:
    """One run. Raises ValueError naming its folder."""
    try:
        described = describe(folder, wanted)
    except ValueError as error:
        raise ValueError(str(error) if folder in str(error) else f"{folder}: {error}") from error
    model, names = described.model, described.tensors.keys()
    if wanted.weights == "auto":
        format, change = chosen_format(model, names, described.outputs)
    else:
        format = wanted.weights
        change = rounding_error(model, names, described.outputs, format)
    return Run(name, described, pack(described.tensors, format), change)


def describe(folder: str, wanted: Wanted) -> Described:
    """A run of any panel."""
    panel = next((part for file, part in PARTS.items() if (Path(folder) / file).is_file()), "text")
    if panel == "vision":
        return describe_images(load_images(folder, wanted.checkpoint))
    if panel == "decision":
        return describe_agent(load_agent(folder, wanted.checkpoint))
    return describe_text(load_text(folder, wanted.checkpoint), wanted.prompt)


def names(folders: Sequence[str]) -> list[str]:
    """The last parts of the folders' paths, as many of them as tell the runs apart."""
    parts = [Path(folder).resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        short = ["/".join(each[-length:]) for each in parts]
        if len(set(short)) == len(short):
            break
    return short
