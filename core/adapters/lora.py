"""LoRA (Hu 2021) and DoRA (Liu 2024): linear maps of a trained model, picked by name, get something to add.

adapt(model, AdapterConfig("lora", rank=8, targets=("q", "v")))   # at first, the same outputs to the bit
...                                                              # training changes the adapters alone
merge(model)                                                     # the same outputs to rounding, the old classes
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.adapters.config import AdapterConfig
from core.attention import StackedLinear
from core.files.tensors import load_into
from core.messages import nearest
from core.scale.remat import blocks_of

SMALLEST = torch.finfo(torch.float32).tiny
ADAPTABLE = (nn.Linear, StackedLinear)
"""Classes of maps that compute W x + b and nothing else; a class of its own may mean more."""


class LowRank(nn.Module):
    """s B A x beside W x: `down` is A (r, in), `up` is B (out, r), zero at first (Hu 2021, 4.1)."""

    def __init__(self, weight: Tensor, config: AdapterConfig):
        super().__init__()
        (outputs, inputs), self.scale = weight.shape, config.alpha / config.rank
        self.down = nn.Parameter(weight.new_empty(config.rank, inputs, dtype=torch.float32))
        self.up = nn.Parameter(weight.new_zeros(outputs, config.rank, dtype=torch.float32))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What is added to y = W x + b: x (..., in), y (..., out), weight (out, in), bias (out,) -> (..., out)."""
        return F.linear(F.linear(x, self.down) * self.scale, self.up)

    def merged(self, weight: Tensor) -> Tensor:
        """W with what is added to it: (out, in) -> (out, in)."""
        return weight + self.scale * (self.up @ self.down)


class WeightDecomposed(LowRank):
    """(m / |W + s B A|) (W + s B A) x: directions as LoRA, the length m of every row apart (Liu 2024, eq. 5).

    No gradient goes through the norm (4.3).
    """

    def __init__(self, weight: Tensor, config: AdapterConfig):
        super().__init__(weight, config)
        self.magnitude = nn.Parameter(weight.detach().float().norm(dim=1))  # (out,)

    def forward(self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        gain = self.gain(weight).type_as(y)
        bare = y if bias is None else y - bias.type_as(y)
        return (gain - 1) * bare + gain * super().forward(x, y, weight, bias)

    def merged(self, weight: Tensor) -> Tensor:
        return self.gain(weight)[:, None] * super().merged(weight)

    def gain(self, weight: Tensor) -> Tensor:
        """What each row is multiplied by: (out,); 0 for one of zeros."""
        return self.magnitude / super().merged(weight).detach().norm(dim=1).clamp(min=SMALLEST)


M = TypeVar("M", bound=nn.Module)
KINDS: dict[str, type[LowRank]] = {"lora": LowRank, "dora": WeightDecomposed}


class AdaptedLinear(nn.Linear):
    """A linear map that stays as it is, and what is learned beside some of the parts of its output.

    The map's own tensors keep their names.
    """

    def __init__(self, base: nn.Linear, chosen: Sequence[str], config: AdapterConfig):
        nn.Module.__init__(self)
        self.weight, self.bias = base.weight, base.bias
        self.in_features, self.out_features, self.base_class = base.in_features, base.out_features, type(base)
        self.parts = parts_of(base)
        rows = dict(zip(self.parts, base.weight.split([*self.parts.values()]), strict=True))
        self.adapters = nn.ModuleDict({name: KINDS[config.kind](rows[name], config) for name in chosen})

    @property
    def sizes(self) -> tuple[int, ...]:
        """Output widths of the parts, as those of a `StackedLinear`."""
        return tuple(self.parts.values())

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        y = F.linear(x, self.weight, self.bias)
        biases = [None] * len(self.sizes) if self.bias is None else self.bias.split(self.sizes)
        rows = zip(self.parts, y.split(self.sizes, dim=-1), self.weight.split(self.sizes), biases, strict=True)
        added = [
            torch.zeros_like(own) if (adapter := self.adapter(name)) is None else adapter(x, own, weight, bias)
            for name, own, weight, bias in rows
        ]
        return y + torch.cat(added, dim=-1)

    def adapter(self, part: str) -> LowRank | None:
        """What is learned beside a part, if anything is."""
        found = dict(self.adapters.items()).get(part)
        return found if isinstance(found, LowRank) else None

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The same map without adapters, of the class that it had."""
        rows = zip(self.parts, self.weight.split(self.sizes), strict=True)
        weights = [own if (adapter := self.adapter(name)) is None else adapter.merged(own) for name, own in rows]
        plain = self.base_class.__new__(self.base_class)
        nn.Module.__init__(plain)
        plain.in_features, plain.out_features = self.in_features, self.out_features
        plain.weight, plain.bias = nn.Parameter(torch.cat(weights).to(self.weight)), self.bias
        if isinstance(plain, StackedLinear):
            plain.parts = self.parts
        return plain


def adapt(model: M, config: AdapterConfig, whole: Sequence[str] = ()) -> M:
    """Puts adapters beside the linear maps of the blocks that `config.targets` names, in place; the rest is frozen.

    Of kind "none", nothing happens.

    whole: names of modules that are trained as they are, such as a new head

    Raises ValueError naming a target that is not there.
    """
    if config.kind == "none":
        return model
    maps = _maps(model)
    chosen = _chosen(maps, config)
    model.requires_grad_(False)
    for name in whole:
        model.get_submodule(name).requires_grad_(True)
    for name, parts in chosen.items():
        _put(model, name, AdaptedLinear(maps[name], parts, config))
    return model


def merge(model: M) -> M:
    """Adds what the adapters learned to the weights, in place, and removes them; nothing happens where there are none.

    Returns the model, of which then no weight is frozen.
    """
    for name, module in adapted_maps(model).items():
        _put(model, name, module.merged())
        model.requires_grad_(True)
    return model


def adapted_maps(model: nn.Module) -> dict[str, AdaptedLinear]:
    """The maps that have adapters, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    place, _, last = name.rpartition(".")
    setattr(model.get_submodule(place), last, module)


def parts_of(linear: nn.Module) -> dict[str, int]:
    """The parts of a map's output and their widths, in order: one without a name where it stacks none."""
    return getattr(linear, "parts", None) or {"own": int(getattr(linear, "out_features", 0))}


# ------------------------------------------------------------------------------------------------ checkpoints


def checkpoint_state(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds of a model: its state, or with adapters the part that is trained."""
    state: dict[str, Tensor] = model.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if tensor.requires_grad} if adapted_maps(model) else state


def load_checkpoint_state(model: nn.Module, weights: Mapping[str, Tensor], origin: Path) -> None:
    """Copies what a checkpoint holds into a model; ValueError naming what is missing, unknown or of another shape."""
    load_into(model, weights, origin, checkpoint_state(model))


def base_fingerprint(model: nn.Module) -> str | None:
    """A hash of the weights that stay as they are beside adapters; None for a model that has no adapters."""
    if not adapted_maps(model):
        return None
    seal = hashlib.sha256()
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        if not tensor.requires_grad:
            seal.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            seal.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return seal.hexdigest()


def check_base(found: str | None, recorded: str | None, init_from: str) -> None:
    """Raises ValueError unless a model stands on the weights, by their fingerprints, that adapters were trained on."""
    if found != recorded:
        raise ValueError(
            f"init_from = {init_from!r} holds other weights than those that the adapter was trained beside"
        )


# ------------------------------------------------------------------------------------------------ picking maps


def _maps(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear maps of the model's blocks, by name."""
    within = {id(part) for block in blocks_of(model) for part in block.modules()}
    return {
        name: module
        for name, module in model.named_modules()
        if id(module) in within and type(module) in ADAPTABLE and isinstance(module, nn.Linear)
    }


def _chosen(maps: Mapping[str, nn.Linear], config: AdapterConfig) -> dict[str, list[str]]:
    """For each map that is to be adapted, its parts that are."""
    paths = {name: [*_paths(name, parts_of(module))] for name, module in maps.items()}
    there = {path for found in paths.values() for _, path in found}
    for target in config.names:
        if target != "all" and not any(_ends(path, target) for path in there):
            ends = sorted({path.rpartition(".")[2] for path in there})
            raise ValueError(f"adapter.targets: {target!r} is no linear map; {nearest(target, ('all', *ends))}")
    chosen = {
        name: dict.fromkeys(part for part, path in found if any(_ends(path, target) for target in config.names))
        for name, found in paths.items()
    }
    return {name: [*parts] for name, parts in chosen.items() if parts}


def _ends(path: str, target: str) -> bool:
    return target == "all" or f".{path}".endswith(f".{target}")


def _paths(name: str, parts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """The parts of a map, each by the names that it has: that of the map, and its own where there are several."""
    path = name.replace(".branch.", ".")
    for part in parts:
        yield part, path
        if len(parts) > 1:
            yield part, f"{path.rpartition('.')[0]}.{part}"
