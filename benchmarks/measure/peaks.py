"""What a GPU could do at most, and how much of that a rate of useful FLOPs is."""

from __future__ import annotations

import re

PEAKS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}
"""Dense bfloat16 FLOP/s by a part of the device's name, the longer name first; from NVIDIA's data sheets."""


def device_peak(name: str) -> float | None:
    """The dense bfloat16 FLOP/s of a device by its name, None where it is not known."""
    return next((peak for part, peak in PEAKS.items() if re.search(rf"\b{part}\b", name)), None)


def utilised(flops: float, device_name: str) -> dict[str, float]:
    """`tflops`, the useful ones per second, and `mfu`, their share of the device's peak where that is known."""
    peak = device_peak(device_name)
    return {"tflops": flops / 1e12} | ({"mfu": flops / peak} if peak else {})
