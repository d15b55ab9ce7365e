"""The parts of a checkpoint (model, optimizer, ema): one safetensors file each, or a folder with one of each process.

The shards of N processes are read by any number of them: `torch.distributed.checkpoint` writes into each file which
rows of a tensor it holds.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from core.files.tensors import read_tensors, write_tensors
from core.scale.shards import cut_like, is_sharded

TIED = "tied.json"
"""In a folder of shards: further names of tensors that have several."""


def has_part(checkpoint: Path, name: str) -> bool:
    """Whether a checkpoint has a part of this name."""
    return (checkpoint / f"{name}.safetensors").is_file() or (checkpoint / name).is_dir()


def write_part(checkpoint: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Writes a part: `NAME.safetensors`, or `NAME/`, to be called by all processes, where any of it is sharded.

    Raises OSError where any process could not write.
    """
    if not any(map(is_sharded, tensors.values())):
        return write_tensors(checkpoint / f"{name}.safetensors", tensors)
    from torch.distributed import get_rank
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    first = {id(tensor): key for key, tensor in reversed(dict(tensors).items())}
    kept = {key: tensors[key].detach() for key in reversed(first.values())}
    writer = HuggingFaceStorageWriter(str(checkpoint / name), save_distributed=True)
    try:
        save(kept, storage_writer=writer)
    except CheckpointException as error:
        causes = [failure[0] if isinstance(failure, tuple) else failure for failure in error.failures.values()]
        raise OSError(f"{len(causes)} of the processes could not write: {causes[0]}") from error
    if get_rank() == 0:
        tied = {key: first[id(tensor)] for key, tensor in tensors.items() if key not in kept}
        (checkpoint / name / TIED).write_text(json.dumps(tied), encoding="utf-8")


def read_part(checkpoint: Path, name: str, placed: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The tensors of a part; ValueError where it is missing.

    placed: parameters by their names: what has the name (after a "/") and the shape of a sharded one is sharded as it
            is, and all processes must read; the rest is whole, on the CPU
    """
    file, folder = checkpoint / f"{name}.safetensors", checkpoint / name
    placed = placed or {}
    if not folder.is_dir():
        tensors = read_tensors(file)
        return {key: cut_like(tensor, _model_of(key, tensor.shape, placed, tensor)) for key, tensor in tensors.items()}
    tensors = _read_shards(folder, placed)
    tied: dict[str, str] = json.loads((folder / TIED).read_text(encoding="utf-8"))
    return tensors | {key: tensors[kept] for key, kept in tied.items()}


def _read_shards(folder: Path, placed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    described = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    tensors: dict[str, Tensor] = {}
    for key, record in described.items():
        assert isinstance(record, TensorStorageMetadata)
        like = torch.empty(record.size, dtype=record.properties.dtype, device="cpu")
        tensors[key] = torch.zeros_like(_model_of(key, record.size, placed, like).detach(), dtype=like.dtype)
    together = any(map(is_sharded, tensors.values()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # which is as it should be
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=not together)
    return tensors


def _model_of(key: str, shape: torch.Size, placed: Mapping[str, Tensor], otherwise: Tensor) -> Tensor:
    """The sharded parameter that a tensor belongs to, if there is one of its shape."""
    parameter = placed.get(key.rpartition("/")[2])
    found = parameter is not None and is_sharded(parameter) and parameter.shape == shape
    return parameter if found and parameter is not None else otherwise
