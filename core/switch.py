"""Where an operation is exchanged for a kernel: code that is only faster, never different.

Delete `core/kernels`, or a file in it, and everything still is right. With TRIPTYCH_KERNELS=off, read when Python
starts, everything takes PyTorch's plain path.
"""

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

SETTING = os.environ.get("TRIPTYCH_KERNELS", "on")


def with_kernel(plain: Callable[P, R]) -> Callable[P, R]:
    """An operation, by `kernel(plain, ...)` of the file in `core/kernels` that has its name, where there is one.

    Raises ValueError for another TRIPTYCH_KERNELS than on or off.
    """
    if SETTING not in ("on", "off"):
        raise ValueError(f"TRIPTYCH_KERNELS = {SETTING!r} is not one of: on, off")
    name = f"core.kernels.{plain.__name__}"
    if SETTING == "off" or not (find_spec("core.kernels") and find_spec(name)):
        return plain
    return partial(import_module(name).kernel, plain)
