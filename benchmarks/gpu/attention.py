"""One layer's attention on a GPU, forward and backward: fused, routed by the core, and with a dense mask."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure.timing import Device, time_steps
from core.attention import attend
from core.devices import native_dtype
from core.graph import Route, Span, causal, route, window

WINDOW = 256
TOKENS = 32_768  # of a measurement on a GPU: batch x length


def measure_attention(seed: int, lengths: Sequence[int], device: Device) -> dict[str, float]:
    """Seconds of forward and backward by graph and length: 12 heads of 64 channels."""
    torch.manual_seed(seed)
    place, seconds = torch.device(device), dict[str, float]()
    for length in lengths:
        batch = max(1, TOKENS // length) if device == "cuda" else 1
        shape, dtype = (batch, 12, length, 64), native_dtype(place)
        qkv = [torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]
        near, span = causal() & window(WINDOW), Span(batch, length, length)
        routes = {
            "causal": route(causal(), span, place),
            "window": route(near, span, place),
            "window, dense": Route(mask=near.mask(batch, length, length, device=place).unsqueeze(1)),
        }
        for kind, way in routes.items():
            timed = time_steps(partial(attention_step, qkv, way), seconds=2.0, device=device)
            seconds[f"{kind}, {length}"] = timed["step_seconds"]
    return seconds


def attention_step(qkv: Sequence[Tensor], way: Route) -> None:
    attend(qkv[0], qkv[1], qkv[2], way).sum().backward()
    for tensor in qkv:
        tensor.grad = None
