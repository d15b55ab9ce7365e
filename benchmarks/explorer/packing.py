"""The weights of a model as text for a page: rounded to a format, bytes in planes, deflated, in base 85."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

Format = Literal["int6", "int8", "fp16", "fp24", "fp32"]
FORMATS: tuple[Format, ...] = get_args(Format)
LEVELS: Mapping[Format, int] = {"int6": 23, "int8": 127}
"""The largest whole number in a row of a matrix, above zero and below; int6 keeps the demo below 2 MB."""
EXACT: tuple[Format, ...] = ("fp16", "fp24")
"""What `auto` tries, the smallest first."""
TOLERANCE = 5e-5
"""The most that rounded weights may change an output, for `auto`: half of what the page may differ by in all."""
IN_SCRIPTS = str.maketrans("<&", ",.")
"""Characters of base 85 that mean something in HTML, and what stands for them."""


@dataclass(frozen=True)
class Packed:
    """Tensors one after another. index: the shape and the first byte of each, or the name of an equal one."""

    format: Format
    index: dict[str, dict[str, Any]]
    text: str


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
        blocks.append(as_bytes(tensor.detach().to("cpu", torch.float32), format))
        place += len(blocks[-1])
    return Packed(format, index, as_text(b"".join(blocks)))


def as_text(data: bytes) -> str:
    """Bytes deflated, in base 85."""
    deflate = zlib.compressobj(9, strategy=zlib.Z_FILTERED)  # for data that hardly ever repeats
    return base64.b85encode(deflate.compress(data) + deflate.flush()).decode().translate(IN_SCRIPTS)


def as_bytes(tensor: Tensor, format: Format) -> bytes:
    """A tensor's numbers in planes: the lowest byte of all of them, then the next, so that they deflate well.

    fp24 is the upper three bytes of float32. A matrix of whole numbers follows its rows' scales; vectors are fp24.
    """
    if format in LEVELS:
        if tensor.dim() < 2:
            return as_bytes(tensor, "fp24")
        scales, whole = quantised(tensor, LEVELS[format])
        return as_bytes(scales, "fp24") + whole.to(torch.int8).numpy().tobytes()
    if format == "fp16":
        return planes(tensor.half().numpy().astype("<f2"))
    if format == "fp24":
        return planes(rounded24(tensor).numpy().astype("<f4"))[tensor.numel() :]
    return planes(tensor.numpy().astype("<f4"))


def planes(values: np.ndarray[Any, Any]) -> bytes:
    """The bytes of numbers, by their place in a number."""
    return values.reshape(-1, 1).view("u1").T.tobytes()  # (N, bytes) -> (bytes, N)


def rounded24(values: Tensor) -> Tensor:
    """float32 rounded to the nearest number whose lowest byte is zero: same shape."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x80) & ~0xFF).view(torch.float32)


def quantised(matrix: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Rows (R, ...) as whole numbers (R, C) of at most `levels`, and what one is worth in each row (R)."""
    rows = matrix.flatten(1)  # (R, C)
    scales = rounded24(rows.abs().amax(1) / levels)
    whole = (rows / scales.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(1)).round()
    return scales, whole.clamp(-levels, levels)


def rounded(tensor: Tensor, format: Format) -> Tensor:
    """float32 as the page has it: same shape."""
    if format == "fp16":
        return tensor.half().float()
    if format == "fp32":
        return tensor
    if format == "fp24" or tensor.dim() < 2:
        return rounded24(tensor)
    scales, whole = quantised(tensor, LEVELS[format])
    return (whole * scales.unsqueeze(1)).view_as(tensor)


def chosen_format(model: nn.Module, names: Collection[str], outputs: Callable[[], Tensor]) -> tuple[Format, float]:
    """The smallest format whose rounding changes no output by more than TOLERANCE, and the change itself.

    outputs: the model's, for some inputs. The model is left as it was.
    """
    for format in EXACT:
        change = rounding_error(model, names, outputs, format)
        if change <= TOLERANCE:
            return format, change
    return "fp32", 0.0


@torch.no_grad()
def rounding_error(model: nn.Module, names: Collection[str], outputs: Callable[[], Tensor], format: Format) -> float:
    """The most that an output changes when the weights of some names are rounded to a format."""
    if format == "fp32":
        return 0.0
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exact = outputs()
    try:
        round_weights(model, names, format)
        return float((outputs() - exact).abs().max())
    finally:
        model.load_state_dict(kept)


@torch.no_grad()
def round_weights(model: nn.Module, names: Collection[str], format: Format) -> None:
    """Rounds the weights of some names where they are, so that the model computes what the page does."""
    for name, tensor in model.state_dict().items():
        if name in names and tensor.is_floating_point():
            tensor.copy_(rounded(tensor, format))
