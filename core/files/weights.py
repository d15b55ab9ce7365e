"""Weights of other layouts in and out: one table of rules read in both directions, and no pickle in either.

A rule says which tensors of theirs make one tensor of ours, and how. The table is complete: importing refuses
by name what is neither in the table nor among what may be ignored; exporting leaves nothing of ours behind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
WEIGHT, BOTH = ("weight",), ("weight", "bias")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Layout:
    """How one tensor of ours lies in one or several of theirs. The two directions undo each other exactly."""

    load: Callable[[Sequence[Tensor]], Tensor]
    save: Callable[[Tensor], Sequence[Tensor]]


SAME = Layout(lambda parts: parts[0], lambda ours: [ours])
TRANSPOSED = Layout(lambda parts: parts[0].t(), lambda ours: [ours.t()])  # vectors stay as they are


def stacked(*rows: int) -> Layout:
    """Several of theirs on top of each other, `rows` of each."""
    return Layout(lambda parts: torch.cat(list(parts)), lambda ours: ours.split(rows))


@dataclass(frozen=True)
class Rule:
    """One tensor of ours, the tensors of theirs it is made of, and how; `*` is a layer's number."""

    ours: str
    theirs: tuple[str, ...]
    layout: Layout = SAME

    def renamed(self, theirs: Callable[[str], str]) -> Rule:
        """The same rule where their names are others."""
        return Rule(self.ours, tuple(map(theirs, self.theirs)), self.layout)


def module(ours: str, *theirs: str, kinds: tuple[str, ...] = BOTH, layout: Layout = SAME) -> list[Rule]:
    """The rules of one module of ours and the modules of theirs that it is made of."""
    return [Rule(f"{ours}.{kind}", tuple(f"{name}.{kind}" for name in theirs), layout) for kind in kinds]


def each_layer(rules: Iterable[Rule], depth: int) -> list[Rule]:
    """The rules of every layer, from those of one."""
    rules, layers = list(rules), map(str, range(depth))
    return [
        Rule(rule.ours.replace("*", n), tuple(name.replace("*", n) for name in rule.theirs), rule.layout)
        for n in layers
        for rule in rules
    ]


@torch.no_grad()
def import_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    rules: Sequence[Rule],
    *,
    ignored: Sequence[str] = (),
    repeated: Mapping[str, str] | None = None,
) -> None:
    """Fill a model from weights of another layout, converted to its own dtype.

    ignored:  patterns of their names that say nothing (`*` matches anything)
    repeated: names of theirs that may be there too, each with the name of the tensor that it must then equal

    Raises ValueError naming what is missing, unknown, of another shape or of another type.
    """
    ours, repeated = _tensors(model, rules), repeated or {}
    needed = {name for rule in rules for name in rule.theirs}
    _refuse("the weights lack", needed - set(weights))
    spare = set(weights) - needed - set(repeated)
    _refuse("the weights hold unknown", {name for name in spare if not _matches(name, ignored)})
    for rule in rules:
        shapes = [part.shape for part in rule.layout.save(ours[rule.ours].to("meta"))]
        parts = [_checked(name, weights[name], shape) for name, shape in zip(rule.theirs, shapes, strict=True)]
        ours[rule.ours].copy_(rule.layout.load(parts))
    for name, original in repeated.items():
        if name in weights and not torch.equal(weights[name].float(), weights[original].float()):
            raise ValueError(f"{name} is not equal to {original}, although the configuration ties them")


@torch.no_grad()
def export_weights(model: nn.Module, rules: Sequence[Rule]) -> dict[str, Tensor]:
    """A model's weights by their names and in their layout: copies in float32 on the CPU."""
    ours = _tensors(model, rules)
    return {
        name: part.to("cpu", torch.float32, copy=True, memory_format=torch.contiguous_format)
        for rule in rules
        for name, part in zip(rule.theirs, rule.layout.save(ours[rule.ours]), strict=True)
    }


class Uninitialised(TorchFunctionMode):
    """While open, new modules skip `torch.nn.init`: weights to be overwritten need no random numbers."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


class Safetensors(Mapping[str, Tensor]):
    """The tensors of a folder by name, from `model.safetensors` or its shards; each is read when asked for.

    Raises ValueError naming the file that is missing, damaged, or of a kind that can execute code.
    """

    def __init__(self, folder: Path):
        self._at: dict[str, Any] = {}  # name -> the open file that holds it
        listed = _listed(folder)
        for file in dict.fromkeys(listed.values()) if listed else [WEIGHTS]:
            opened = _open(folder / file)
            self._at |= dict.fromkeys(opened.keys(), opened)
        _refuse(f"no shard in {folder} holds", set(listed) - set(self._at))

    def __getitem__(self, name: str) -> Tensor:
        return self._at[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object; ValueError naming the file if it is absent or anything else."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"there is no {file.name} in {file.parent}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file} must hold a JSON object, got {type(data).__name__}")
    return data


def _tensors(model: nn.Module, rules: Sequence[Rule]) -> dict[str, Tensor]:
    """A model's tensors by name, tied ones once; the rules must cover them exactly."""
    state = model.state_dict(keep_vars=True)
    first = {id(tensor): name for name, tensor in reversed(state.items())}
    ours = {name: state[name] for name in first.values()}
    covered = {rule.ours for rule in rules}
    _refuse("no rule covers", set(ours) - covered)
    _refuse("the model lacks", covered - set(ours))
    return ours


def _checked(name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
    if tensor.shape != shape:
        raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, the configuration asks for {tuple(shape)}")
    if tensor.dtype not in PRECISIONS:
        accepted = ", ".join(str(kind).removeprefix("torch.") for kind in PRECISIONS)
        raise ValueError(f"{name} is of type {str(tensor.dtype).removeprefix('torch.')}, accepted are: {accepted}")
    return tensor


def _refuse(complaint: str, names: Iterable[str]) -> None:
    """Raise ValueError with the complaint and the first few names, if there is any."""
    if listed := sorted(names):
        rest = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
        raise ValueError(f"{complaint} {', '.join(listed[:4])}{rest}")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _listed(folder: Path) -> dict[str, str]:
    """What the index of shards lists, name -> file; nothing where the weights are in one file."""
    if (folder / WEIGHTS).is_file():
        return {}
    if not (folder / INDEX).is_file():
        raise ValueError(f"there is no {WEIGHTS} in {folder}{_pickles(folder)}")
    listed = read_json(folder / INDEX).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"{folder / INDEX} has no weight_map")
    for file in listed.values():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise ValueError(f"{folder / INDEX} lists {file!r}, which is not the name of a safetensors file beside it")
    return listed


def _pickles(folder: Path) -> str:
    """The end of a sentence about what is there instead of safetensors."""
    found = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES) if folder.is_dir() else []
    return f"; {found[0]} is a pickle, which can execute code, and is never read" if found else ""


def _open(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(file, framework="pt")
    except FileNotFoundError as error:
        raise ValueError(f"there is no {file.name} in {file.parent}") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is damaged or not a safetensors file: {error}") from error
