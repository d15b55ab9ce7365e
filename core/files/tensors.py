"""Tensors in safetensors files, and from them into models."""

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
    """The tensors of a safetensors file on the CPU, tied ones under all their names.

    Raises ValueError naming the file that is missing or damaged.
    """
    with _open(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        tied = json.loads((file.metadata() or {}).get("tied", "{}"))
    return tensors | {name: tensors[kept] for name, kept in tied.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Stores tied tensors once, their other names in the metadata; copies other views of a shared storage."""
    from safetensors.torch import save_file

    first: dict[tuple[Any, ...], str] = {}
    storages: set[int] = set()
    kept: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    for name, tensor in tensors.items():
        identity = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and identity in first:
            tied[name] = first[identity]
            continue
        first[identity] = name
        storage = tensor.untyped_storage().data_ptr()
        whole = tensor.detach().contiguous()
        kept[name] = whole.clone() if storage in storages else whole
        storages.add(storage)
    save_file(kept, path, metadata={"tied": json.dumps(tied)})


class Safetensors(Mapping[str, Tensor]):
    """The tensors of a folder by name, from `model.safetensors` or its shards; each is read when asked for.

    Raises ValueError naming the file that is missing, damaged, or of a kind that can execute code.
    """

    def __init__(self, folder: Path):
        self._files: dict[str, Any] = {}  # the open file that holds each tensor
        shards = _shards(folder)
        for file in dict.fromkeys(shards.values()) if shards else [WEIGHTS]:
            opened = _open(folder / file)
            self._files |= dict.fromkeys(opened.keys(), opened)
        refuse_names(f"no shard in {folder} holds", set(shards) - set(self._files))

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def load_into(
    model: nn.Module, weights: Mapping[str, Tensor], origin: Path, expected: Mapping[str, Tensor] | None = None
) -> None:
    """Copies `weights` into `model`; ValueError naming those that are missing, unknown or of another shape.

    expected: the part of the model's state that they are for; default all of it
    """
    part, expected = expected is not None, model.state_dict() if expected is None else expected
    check_names(weights, expected, f"{origin}: ")
    for name, tensor in expected.items():
        check_shape(name, weights[name], tensor.shape, f"{origin}: ")
    model.load_state_dict(weights, strict=not part)


class Uninitialised(TorchFunctionMode):
    """While open, new modules skip `torch.nn.init`: weights to be overwritten need no random numbers."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def check_names(weights: Iterable[str], expected: Iterable[str], prefix: str = "") -> None:
    """Raise ValueError naming the tensors that weights lack, or those that are not expected in them."""
    held, wanted = set(weights), set(expected)
    refuse_names(f"{prefix}the weights lack", wanted - held)
    refuse_names(f"{prefix}the weights hold unknown", held - wanted)


def check_shape(name: str, tensor: Tensor, shape: torch.Size, prefix: str = "") -> None:
    """Raise ValueError when a tensor of weights has another shape than the model's."""
    if tensor.shape != shape:
        raise ValueError(f"{prefix}{name} has the shape {tuple(tensor.shape)}, the model needs {tuple(shape)}")


def refuse_names(complaint: str, names: Iterable[str]) -> None:
    """Raise ValueError with the complaint and the first few names, if there are any."""
    if listed := sorted(names):
        rest = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
        raise ValueError(f"{complaint} {', '.join(listed[:4])}{rest}")


def _shards(folder: Path) -> dict[str, str]:
    """The file of each tensor, from the index of shards; nothing where the weights are in one file."""
    if (folder / WEIGHTS).is_file():
        return {}
    if not (folder / INDEX).is_file():
        raise ValueError(f"there is no {WEIGHTS} in {folder}{_pickles(folder)}")
    shards = read_json(folder / INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{folder / INDEX} has no weight_map")
    for file in shards.values():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise ValueError(f"{folder / INDEX} lists {file!r}, which is not the name of a safetensors file beside it")
    return shards


def _pickles(folder: Path) -> str:
    """The end of a sentence: the pickle that is there instead of safetensors, if any."""
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES) if folder.is_dir() else []
    return f"; {pickles[0]} is a pickle, which can execute code, and is never read" if pickles else ""


def _open(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(file, framework="pt", device="cpu")
    except FileNotFoundError as error:
        raise ValueError(f"there is no {file.name} in {file.parent}") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is damaged or not a safetensors file: {error}") from error
