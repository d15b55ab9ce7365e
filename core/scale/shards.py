"""Weights in shards: a process holds a part of every tensor, and gathers those of a block while it computes.

PyTorch's FSDP2 (`fully_shard`; Zhao et al. 2023), called directly, so that it is the same on CPUs and GPUs. A sharded
tensor is a DTensor, cut along its first axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn


def shard(
    objective: nn.Module,
    blocks: Sequence[nn.Module],
    device: str,
    group: int | None = None,
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> None:
    """Cuts all parameters of `objective`, in place: each block is gathered by itself, the rest together.

    group:     processes that hold one copy together, of which there then are several (HSDP); default all
    precision: in which blocks are gathered, and their gradients made; what is trained is float32, gradients are summed
               in float32, and what is outside of blocks stays float32
    """
    from torch.distributed import get_world_size
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    world = get_world_size()
    size = group or world
    if size == world:
        mesh = init_device_mesh(device, (world,), mesh_dim_names=("shard",))
    else:
        mesh = init_device_mesh(device, (world // size, size), mesh_dim_names=("replicate", "shard"))
    mixed = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for block in blocks:
        policy = mixed if precision == "bf16" else MixedPrecisionPolicy()
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    fully_shard(objective, mesh=mesh, reshard_after_forward=False)


@contextmanager
def gathered(objective: nn.Module) -> Iterator[None]:
    """Inside, a sharded objective holds all weights, and any method of its modules may be called by any process."""
    from torch.distributed.fsdp import FSDPModule

    parts = [module for module in objective.modules() if isinstance(module, FSDPModule)]
    if not parts:
        yield
        return
    root, *blocks = parts
    root._get_fsdp_state()._lazy_init()  # before a block's forward would take the block for the root
    root.set_reshard_after_forward(False)
    for part in parts:
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
        for block in blocks:
            block.set_reshard_after_forward(True)


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor."""
    return hasattr(tensor, "placements")


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, sharing its memory."""
    return cast(Any, tensor).to_local() if is_sharded(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; every process must ask for it where it is sharded."""
    return cast(Any, tensor).full_tensor() if is_sharded(tensor) else tensor


def cut_like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, the same in every process, as the shards of `other`: nothing is exchanged."""
    from torch.distributed.tensor import distribute_tensor

    if not is_sharded(other):
        return tensor
    like: Any = other
    return distribute_tensor(tensor.to(other.device), like.device_mesh, like.placements, src_data_rank=None)


def joined_like(own: Tensor, other: Tensor) -> Tensor:
    """All of a tensor of which each process holds `own`, a part as it holds of `other`."""
    from torch.distributed.tensor import DTensor

    if not is_sharded(other):
        return own
    like: Any = other
    shape, stride = other.shape, other.stride()
    return DTensor.from_local(
        own, like.device_mesh, like.placements, run_check=False, shape=shape, stride=stride
    ).full_tensor()
