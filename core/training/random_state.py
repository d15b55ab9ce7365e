"""Every generator a training step may draw from, seeded, taken and put back as plain JSON."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def take(device: torch.device) -> dict[str, Any]:
    """The state of all generators as JSON values."""
    version, words, gauss = random.getstate()
    legacy: dict[str, Any] = np.random.get_state(legacy=False)
    state = {
        "python": [version, list(words), gauss],
        "numpy": {**legacy, "state": {"key": legacy["state"]["key"].tolist(), "pos": legacy["state"]["pos"]}},
        "torch": _text(torch.get_rng_state()),
    }
    if device.type == "cuda":
        state["cuda"] = _text(torch.cuda.get_rng_state(device))
    if device.type == "mps":
        state["mps"] = _text(torch.mps.get_rng_state())
    return state


def put_back(state: dict[str, Any], device: torch.device) -> None:
    """Restores what `take` took; the generator of a device that the state knows nothing of is left alone."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    legacy = state["numpy"]
    np.random.set_state({**legacy, "state": {**legacy["state"], "key": np.array(legacy["state"]["key"], np.uint32)}})
    torch.set_rng_state(_bytes(state["torch"]))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(_bytes(state["cuda"]), device)
    if device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(_bytes(state["mps"]))


def _text(state: Tensor) -> str:
    return bytes(state.cpu().numpy()).hex()


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
