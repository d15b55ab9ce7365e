"""The weights of a model as text for a page: the smallest of three formats in which it still computes the same."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Format = Literal["fp16", "fp24", "fp32"]
BYTES: Mapping[Format, int] = {"fp16": 2, "fp24": 3, "fp32": 4}
TOLERANCE = 5e-5
"""The most that rounded weights may change an output, for `auto`: half of what the page may differ by in all."""


@dataclass(frozen=True)
class Packed:
    """Tensors one after another. index: the shape and the first number of each, or the name of an equal one."""

    format: Format
    index: dict[str, dict[str, Any]]
    base64: str


def pack(tensors: Mapping[str, Tensor], format: Format) -> Packed:
    """Tensors in a format; those that share their storage are kept once."""
    index: dict[str, dict[str, Any]] = {}
    first: dict[int, str] = {}
    blocks, place = list[bytes](), 0
    for name, tensor in tensors.items():
        if tensor.data_ptr() in first and tensor.numel() and tensors[first[tensor.data_ptr()]].shape == tensor.shape:
            index[name] = {"shape": list(tensor.shape), "same": first[tensor.data_ptr()]}
            continue
        first[tensor.data_ptr()] = name
        index[name] = {"shape": list(tensor.shape), "from": place}
        blocks.append(as_bytes(tensor, format))
        place += tensor.numel()
    return Packed(format, index, base64.b64encode(b"".join(blocks)).decode())


def as_bytes(tensor: Tensor, format: Format) -> bytes:
    """A tensor's numbers, lowest byte first; fp24 is the upper three bytes of float32, rounded."""
    values = tensor.detach().to("cpu", torch.float32).contiguous()
    if format == "fp16":
        return values.half().numpy().astype("<f2").tobytes()
    raw = rounded24(values).numpy().astype("<f4") if format == "fp24" else values.numpy().astype("<f4")
    octets = raw.view("u1").reshape(-1, 4)  # (N, 4)
    return octets[:, 1 if format == "fp24" else 0 :].tobytes()


def rounded24(values: Tensor) -> Tensor:
    """float32 rounded to the nearest number whose lowest byte is zero: same shape."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x80) & ~0xFF).view(torch.float32)


ROUND: Mapping[Format, Callable[[Tensor], Tensor]] = {"fp16": lambda x: x.half().float(), "fp24": rounded24}


def chosen_format(model: nn.Module, outputs: Callable[[], Tensor]) -> tuple[Format, float]:
    """The smallest format whose rounding changes no output by more than TOLERANCE, and the change itself.

    outputs: the model's, for some inputs. The model is left as it was.
    """
    for format in ("fp16", "fp24"):
        change = rounding_error(model, outputs, format)
        if change <= TOLERANCE:
            return format, change
    return "fp32", 0.0


@torch.no_grad()
def rounding_error(model: nn.Module, outputs: Callable[[], Tensor], format: Format) -> float:
    """The most that an output changes when the weights are rounded to a format."""
    if format == "fp32":
        return 0.0
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exact = outputs()
    try:
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(ROUND[format](tensor))
        return float((outputs() - exact).abs().max())
    finally:
        model.load_state_dict(kept)
