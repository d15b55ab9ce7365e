"""How the weights of a run are divided among its processes: as it is configured, or as its launcher says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from core.messages import notice
from core.training.config import RunConfig

LAUNCHED = "ACCELERATE_USE_FSDP"
"""Set by `accelerate launch --use_fsdp`."""

Distribution = Literal["whole", "sharded"]


def distribution(config: RunConfig, processes: int) -> Distribution:
    """Whether each process holds all weights or a shard of them.

    Raises ValueError for what `accelerate launch` was asked for and does not exist here.
    """
    launched = _is_true(LAUNCHED)
    if launched:
        _check_launch(config)
    if config.distribute == "ddp" or not (launched or config.distribute == "fsdp"):
        if config.shard_size is not None:
            raise ValueError(
                f"shard_size = {config.shard_size} has no effect: nothing is cut without distribute = 'fsdp'"
            )
        return "whole"
    if processes == 1:
        notice("distribute = 'fsdp' has no effect on one process; start several with torchrun")
        return "whole"
    if config.precision == "fp16":
        raise ValueError("precision = 'fp16' needs distribute = 'ddp': shards are trained in bf16 or fp32")
    return "sharded"


@contextmanager
def sharding_ourselves() -> Iterator[None]:
    """Inside, Accelerate does not see that it was asked to shard: on a CPU it would not, and say nothing."""
    held = os.environ.pop(LAUNCHED, None)
    try:
        yield
    finally:
        if held is not None:
            os.environ[LAUNCHED] = held


def refuse_stale_addresses() -> None:
    """Raise ValueError where a launcher that restarts processes would let them look for those before them.

    torchrun's agents keep one store for all lives of a run, with the addresses of the first (PyTorch's issue #135712).
    """
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts and _is_true("TORCHELASTIC_USE_AGENT_STORE"):
        raise ValueError(
            f"torchrun --max-restarts {restarts}: processes would look for each other where those before them were; set"
            " TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where torchrun is started, with --standalone or --rdzv-backend c10d"
        )


def _check_launch(config: RunConfig) -> None:
    version = os.environ.get("FSDP_VERSION", "1")
    if version != "2":
        raise ValueError(f"accelerate launch --use_fsdp with --fsdp_version {version}: take --fsdp_version 2")
    if config.distribute == "ddp":
        raise ValueError("distribute = 'ddp' contradicts accelerate launch --use_fsdp; leave one of them out")
    if _is_true("FSDP_OFFLOAD_PARAMS"):
        raise ValueError("--fsdp_offload_params true is not supported: weights stay on the devices")
    if os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "").lower() == "false":
        raise ValueError(
            "--fsdp_reshard_after_forward false is not supported: weights are gathered once more backwards"
        )
    if _is_true("FSDP_ACTIVATION_CHECKPOINTING") and config.remat == "none":
        raise ValueError("--fsdp_activation_checkpointing true: take --remat blocks in its place")


def _is_true(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes")
