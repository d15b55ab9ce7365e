"""A trained model as the page is given it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

Kind = Literal["gpt", "encoder", "seq2seq", "vit", "agent"]
SEED, TRIES = 0, 20
"""Of the random inputs on which rounding is measured."""


@dataclass(frozen=True)
class Described:
    """What the page needs of a model, all in plain values, and its weights.

    said:    the shape, its stacks of blocks, what it begins with
    tensors: by the names that the page looks for
    outputs: the model's logits for some random inputs, to judge rounding by
    """

    kind: Kind
    panel: Literal["text", "vision", "decision"]
    said: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    model: nn.Module
    outputs: Callable[[], Tensor]


def weights_of(model: nn.Module, *without: str) -> dict[str, Tensor]:
    """A model's parameters and buffers by name, tied ones under all of theirs, but for some beginnings of names."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(without or "\0")}
