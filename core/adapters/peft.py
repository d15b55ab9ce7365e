"""Adapters in the layout of the library peft: `adapter_config.json` and `adapter_model.safetensors`, in and out.

A file holds, behind `base_model.model.` and the name that a map has in the public model, `lora_A.weight` (r, in),
`lora_B.weight` (out, r), and with DoRA `lora_magnitude_vector` (out,). What was trained whole has its own name.
"""

from __future__ import annotations

import math
import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from core.adapters.config import AdapterConfig
from core.adapters.lora import SMALLEST, AdaptedLinear, adapted_maps, checkpoint_state
from core.checks import check_choice
from core.files.json_files import read_json
from core.files.tensors import read_tensors
from core.files.weights import TRANSPOSED, Rule

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
A, B, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Ways to begin (`init_lora_weights`) that leave the base as it is; with others an adapter belongs to a changed one."""


@dataclass(frozen=True)
class PeftConfig:
    """The fields of an `adapter_config.json` with an effect on the numbers, under their names there."""

    peft_type: Literal["LORA"] = "LORA"
    base_model_name_or_path: str = ""
    r: int = 8
    lora_alpha: float = 8
    use_dora: bool = False
    use_rslora: bool = False
    fan_in_fan_out: bool = False
    init_lora_weights: bool | str = True
    layer_replication: None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> PeftConfig:
        """That of a folder. Raises ValueError naming the file and a field that is not supported."""
        said = read_json(folder / CONFIG)
        known = {f.name: said[f.name] for f in fields(cls) if said.get(f.name) is not None}
        try:
            check_choice("peft_type", known.get("peft_type"), ("LORA",))
            check_choice("init_lora_weights", known.get("init_lora_weights", True), STARTS)
            check_choice("layer_replication", known.get("layer_replication"), (None,))
            if not known.get("base_model_name_or_path"):
                raise ValueError("base_model_name_or_path is missing: the model that the adapter belongs to")
        except ValueError as error:
            raise ValueError(f"{folder / CONFIG}: {error}") from error
        return cls(**known)

    def scale(self, name: str, rank: int) -> float:
        """What B A is multiplied by, of the map of that name."""
        alpha = next((value for key, value in self.alpha_pattern.items() if _matches(key, name)), self.lora_alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter in peft's layout."""
    return (folder / CONFIG).is_file()


def with_adapter(weights: Mapping[str, Tensor], folder: Path) -> Mapping[str, Tensor]:
    """The weights of a public model with those of an adapter added to them.

    Raises ValueError naming the file, and what in it is unknown or belongs to nothing in the model.
    """
    config, tensors = PeftConfig.read(folder), read_tensors(folder / WEIGHTS)
    changed: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        if name.endswith(A):
            map_name = name.removesuffix(A)
            changed[f"{map_name}.weight"] = _merged(map_name, weights, tensors, config, folder)
        elif ".lora_" not in name:
            _require(name, weights, folder)
            changed[name] = tensor
        elif not name.endswith((B, MAGNITUDE)):
            raise ValueError(f"{folder / WEIGHTS} holds {key}, which is not supported")
    return ChainMap(changed, weights)  # type: ignore[arg-type]  # which is only read


def _merged(
    name: str, weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor], config: PeftConfig, folder: Path
) -> Tensor:
    """W + s B A, its rows of the lengths that DoRA learned, as the public model holds it."""
    _require(f"{name}.weight", weights, folder)
    _require(f"{PREFIX}{name}{B}", tensors, folder)
    down, up = (tensors[f"{PREFIX}{name}{end}"].float() for end in (A, B))
    stored = weights[f"{name}.weight"].float()
    weight = stored.t() if config.fan_in_fan_out else stored  # (out, in)
    if weight.shape != (len(up), down.shape[1]) or up.shape[1] != len(down):
        raise ValueError(f"{folder / WEIGHTS}: {name} is of another shape than {tuple(weight.shape)} of the model")
    merged = weight + config.scale(name, len(down)) * (up @ down)
    if config.use_dora:
        _require(f"{PREFIX}{name}{MAGNITUDE}", tensors, folder)
        magnitude = tensors[f"{PREFIX}{name}{MAGNITUDE}"].float().flatten()
        merged = (magnitude / merged.norm(dim=1).clamp(min=SMALLEST))[:, None] * merged
    return merged.t() if config.fan_in_fan_out else merged


def _require(name: str, held: Mapping[str, Tensor], folder: Path) -> None:
    if name not in held:
        raise ValueError(f"{folder / WEIGHTS}: there is no {name} to go with it")


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(rf"(.*\.)?({pattern})", name) is not None


# ------------------------------------------------------------------------------------------------------- out


@torch.no_grad()
def peft_files(
    model: nn.Module, config: AdapterConfig, rules: Sequence[Rule], base: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the configuration of the adapters of a model.

    rules: how the weights of the model lie in the public one that is called `base`

    Raises ValueError for a map that has no place there.
    """
    by_name = {rule.ours: rule for rule in rules}
    tensors: dict[str, Tensor] = {}
    for name, adapted in adapted_maps(model).items():
        tensors |= _tensors(adapted, by_name[f"{name}.weight"], config)
    whole = [by_name[name] for name in checkpoint_state(model) if ".adapters." not in name]
    for rule in whole:
        own = rule.layout.save(model.state_dict()[rule.ours])
        tensors |= {f"{PREFIX}{name}": part for name, part in zip(rule.theirs, own, strict=True)}
    tensors = {name: part.detach().cpu().float().contiguous().clone() for name, part in tensors.items()}
    ranks = {key.removeprefix(PREFIX).removesuffix(A): len(part) for key, part in tensors.items() if key.endswith(A)}
    turned = {by_name[f"{name}.weight"].layout is TRANSPOSED for name in adapted_maps(model)}
    if len(turned) > 1:
        raise ValueError("adapter.targets lie turned in the public layout and not: export an adapter of either kind")
    other = {name: rank for name, rank in ranks.items() if rank != config.rank}
    said: dict[str, Any] = {"peft_type": "LORA", "base_model_name_or_path": base, "inference_mode": True}
    said |= {"r": config.rank, "lora_alpha": config.alpha, "lora_dropout": 0.0, "bias": "none"}
    said |= {"use_dora": config.kind == "dora", "use_rslora": False, "fan_in_fan_out": turned == {True}}
    said |= {"target_modules": sorted(ranks), "rank_pattern": other}
    said |= {"alpha_pattern": {name: config.alpha * rank / config.rank for name, rank in other.items()}}
    saved = {name.rpartition(".")[0] for rule in whole for name in rule.theirs}
    return tensors, said | {"modules_to_save": sorted(saved) or None}


def _tensors(adapted: AdaptedLinear, rule: Rule, config: AdapterConfig) -> dict[str, Tensor]:
    """The adapters of a map as those of the maps that it is in the public layout.

    Where several parts are one map there, their matrices A stand on top of each other, and B has a block for each.
    """
    ups, downs, magnitudes = [], [], []
    for part, weight in zip(adapted.parts, adapted.weight.split(adapted.sizes), strict=True):
        adapter = adapted.adapter(part)
        ups.append(weight.new_zeros(len(weight), 0) if adapter is None else adapter.up)
        downs.append(weight.new_zeros(0, adapted.in_features) if adapter is None else adapter.down)
        magnitudes.append(getattr(adapter, "magnitude", weight.norm(dim=1)))
    block, down = torch.block_diag(*ups), torch.cat(downs)  # (out, R), (R, in)
    turned = rule.layout is TRANSPOSED
    blocks, lengths, used = (
        [each] if turned else rule.layout.save(each)
        for each in (block, torch.cat(magnitudes), torch.block_diag(*map(torch.ones_like, ups)))
    )
    found: dict[str, Tensor] = {}
    for name, up, length, mask in zip(rule.theirs, blocks, lengths, used, strict=True):
        columns, place = mask.bool().any(0), f"{PREFIX}{name.removesuffix('.weight')}"
        if columns.any():
            found |= {place + A: down[columns], place + B: up[:, columns]}
            found |= {place + MAGNITUDE: length} if config.kind == "dora" else {}
    return found
