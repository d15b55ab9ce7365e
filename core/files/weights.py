"""Weights of other layouts in and out: one table of rules read in both directions, and no pickle in either.

A rule says which tensors of theirs make one tensor of ours, and how. The table is complete: importing refuses
by name what is neither in the table nor among what may be ignored; exporting leaves nothing of ours behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from core.files.tensors import check_names, check_shape, refuse_names

WEIGHT, BOTH = ("weight",), ("weight", "bias")
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

    ignored:  patterns of names to pass over (`*` matches anything)
    repeated: names that may be there as well, each with the name of the tensor that it must then equal

    Raises ValueError naming what is missing, unknown, of another shape or of another type.
    """
    ours, repeated = _tensors(model, rules), repeated or {}
    needed = {name for rule in rules for name in rule.theirs}
    listed = {name for name in weights if any(fnmatchcase(name, pattern) for pattern in (*ignored, *repeated))}
    check_names(set(weights) - (listed - needed), needed)
    for rule in rules:
        shapes = [part.shape for part in rule.layout.save(ours[rule.ours].to("meta"))]
        parts = [weights[name] for name in rule.theirs]
        for name, part, shape in zip(rule.theirs, parts, shapes, strict=True):
            check_shape(name, part, shape)
            _check_precision(name, part)
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


def _tensors(model: nn.Module, rules: Sequence[Rule]) -> dict[str, Tensor]:
    """A model's tensors by name, tied ones once; the rules must cover them exactly."""
    state = model.state_dict(keep_vars=True)
    first = {id(tensor): name for name, tensor in reversed(state.items())}
    ours = {name: state[name] for name in first.values()}
    covered = {rule.ours for rule in rules}
    refuse_names("no rule covers", set(ours) - covered)
    refuse_names("the model lacks", covered - set(ours))
    return ours


def _check_precision(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in PRECISIONS:
        accepted = ", ".join(str(dtype).removeprefix("torch.") for dtype in PRECISIONS)
        raise ValueError(f"{name} is of type {str(tensor.dtype).removeprefix('torch.')}, accepted are: {accepted}")
