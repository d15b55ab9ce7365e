"""Where an operation is exchanged for a kernel: code that is only faster, never different.

Delete `core/kernels`, or a file in it, and everything still is right. With TRIPTYCH_KERNELS=off, read when Python
starts, everything takes PyTorch's plain path.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
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
    kernel = import_module(name).kernel

    @wraps(plain)
    def operation(*args: P.args, **kwargs: P.kwargs) -> R:
        return plain(*args, **kwargs) if _State.off else kernel(plain, *args, **kwargs)

    return operation


@contextmanager
def without_kernels() -> Iterator[None]:
    """Inside, every operation takes PyTorch's plain path."""
    before, _State.off = _State.off, True
    try:
        yield
    finally:
        _State.off = before


class _State:
    off = False
