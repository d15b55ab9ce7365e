"""Floating-point operations: how many a computation takes, and how many a device could do."""

from __future__ import annotations

import re
import time
from typing import Any, NamedTuple

import torch


class Device(NamedTuple):
    """What a device could do at most."""

    peak: float  # dense bfloat16 FLOP/s
    memory: float  # GiB


DEVICES = {
    "B200": Device(2250e12, 180),
    "GH200": Device(989e12, 96),
    "H200": Device(989e12, 141),
    "H100 PCIe": Device(756e12, 80),
    "H100 NVL": Device(835e12, 94),
    "H100": Device(989e12, 80),
    "A100": Device(312e12, 80),
    "L40S": Device(362e12, 48),
    "L4": Device(121e12, 24),
    "RTX 4090": Device(165e12, 24),
}
"""By a part of the device's name, the longer name first; from NVIDIA's data sheets."""


def known_device(name: str) -> Device | None:
    """The figures of a device by its name, in any case; None where it is not known."""
    return next((device for part, device in DEVICES.items() if re.search(rf"\b{part}\b", name, re.IGNORECASE)), None)


def device_peak(name: str) -> float | None:
    """The dense bfloat16 FLOP/s of a device by its name, None where it is not known."""
    device = known_device(name)
    return device and device.peak


def utilised(flops: float, device_name: str) -> dict[str, float]:
    """`tflops`, the useful ones per second, and `mfu`, their share of the device's peak where that is known."""
    peak = device_peak(device_name)
    return {"tflops": flops / 1e12} | ({"mfu": flops / peak} if peak else {})


def measured_peak(dtype: torch.dtype, size: int = 1024, rounds: int = 5) -> float:
    """FLOP/s of this machine's CPU in square matrix products, in as many threads as torch uses: the best of a few."""
    a = torch.ones(size, size, dtype=dtype)
    fastest = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        torch.mm(a, a)
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * size**3 / fastest


def flop_counter() -> Any:
    """A context that counts the FLOPs of matrix products, convolutions and attention: its `get_total_flops()`.

    A multiplication and an addition are two. Attention is counted in full, whatever its mask.
    """
    from torch.utils.flop_counter import FlopCounterMode

    aten = torch.ops.aten
    on_cpu = {  # which torch does not count
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    return FlopCounterMode(display=False, custom_mapping=on_cpu)


def _attention(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Of shapes q (B, H, Tq, D), k (B, Hkv, Tk, D) and v (B, Hkv, Tk, Dv): Q K^T and the weights times V."""
    batch, heads, queries, width = q
    return 2 * batch * heads * queries * k[2] * (width + v[3])


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Five products in place of two: Q K^T again, and the gradients of V, of the weights, of Q and of K."""
    return 5 * _attention(q, k, v) // 2
