"""`accelerate launch --cpu --num_processes N` starts one process unless told of MPI; here it gets all N."""

from __future__ import annotations

import os
import re
import sys

STARTED = ("RANK", "LOCAL_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def start_all_processes() -> None:
    """Under that command, replaces this process by `torchrun` with N of its kind; else returns at once.

    Accelerate hands a lone CPU process the address of a rendezvous but neither rank nor number (its issue #2741).
    """
    lone = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_PORT" in os.environ
    if not lone or any(name in os.environ for name in STARTED):
        return
    number = _processes_asked_for()
    if number > 1:
        options = [f"--nproc_per_node={number}", f"--master_port={os.environ['MASTER_PORT']}"]
        torchrun = [sys.executable, "-m", "torch.distributed.run"]
        os.execv(sys.executable, [*torchrun, *options, *program(), *sys.argv[1:]])


def program() -> list[str]:
    """What follows `python` in the command that started this process, without its arguments: -m text.train, say."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return ["-m", spec.name.removesuffix(".__main__")] if spec else [sys.argv[0]]


def _processes_asked_for() -> int:
    """N, from the command line of the launcher, our parent."""
    import psutil

    command = " ".join(psutil.Process(os.getppid()).cmdline())
    asked = re.search(r"--num[_-]processes[= ](\d+)", command)
    if not asked:
        raise ValueError("accelerate launch --cpu started one process; give --num_processes N, or use torchrun")
    return int(asked[1])
