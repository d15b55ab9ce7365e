"""What every test relies on: one thread, fixed seeds, no network, and real data where there is any."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import numpy as np
import pytest
import torch
from hypothesis import settings

settings.register_profile("fixed", deadline=None, derandomize=True)  # the same examples on every run
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def default_dtype_is_kept() -> Iterator[None]:
    """A test may compute in float64; the next one starts from float32."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets, `$TRIPTYCH_DATA`; skips where there is none."""
    root = os.environ.get("TRIPTYCH_DATA")
    if root is None or not Path(root).is_dir():
        pytest.skip("no real data: TRIPTYCH_DATA names no folder")
    return Path(root)


def pytest_collection_finish() -> None:
    """What the tests import stays; garbage collections need not go through it again and again."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
