"""Tensors in safetensors files, and from them into models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from core.files.json_files import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file on the CPU, tied ones under all names; ValueError if damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            tied = json.loads((file.metadata() or {}).get("tied", "{}"))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    return tensors | {name: tensors[kept] for name, kept in tied.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Stores tied tensors once, their other names in the metadata; copies other views of a shared storage."""
    from safetensors.torch import save_file

    seen: dict[tuple[Any, ...], str] = {}
    storages: set[int] = set()
    kept: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    for name, tensor in tensors.items():
        identity = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and identity in seen:
            tied[name] = seen[identity]
            continue
        storage = tensor.untyped_storage().data_ptr()
        tensor = tensor.detach()
        whole = torch.contiguous_format
        kept[name] = tensor.clone(memory_format=whole) if storage in storages else tensor.contiguous()
        storages.add(storage)
        seen[identity] = name
    save_file(kept, path, metadata={"tied": json.dumps(tied)})


def load_into(model: nn.Module, weights: Mapping[str, Tensor], origin: Path) -> None:
    """Copies `weights` into `model`; ValueError naming one that is missing, unknown or of another shape."""
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name not in weights:
            raise ValueError(f"{origin} has no weights for {name!r}")
        if weights[name].shape != tensor.shape:
            raise ValueError(
                f"{origin}: {name!r} has shape {tuple(weights[name].shape)}, the model needs {tuple(tensor.shape)}"
            )
    if unknown := [name for name in weights if name not in expected]:
        raise ValueError(f"{origin} has weights for {unknown[0]!r}, which the model lacks")
    model.load_state_dict(weights)


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
        refuse_names(f"no shard in {folder} holds", set(listed) - set(self._at))

    def __getitem__(self, name: str) -> Tensor:
        return self._at[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)


def refuse_names(complaint: str, names: Iterable[str]) -> None:
    """Raise ValueError with the complaint and the first few names, if there is any."""
    if listed := sorted(names):
        rest = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
        raise ValueError(f"{complaint} {', '.join(listed[:4])}{rest}")


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
