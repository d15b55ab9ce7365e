"""Recurrences by the formulas that torch documents, one token at a time: what the models have to equal."""

from __future__ import annotations

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]


def lstm(x: Tensor, state: State, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> State:
    """Hochreiter 1997 with the forget gate of Gers 2000: x (C,), (h, c) (D,) each -> the next (h, c)."""
    h, c = state
    i, f, g, o = (w_ih @ x + b_ih + w_hh @ h + b_hh).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru(x: Tensor, state: State, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> State:
    """Cho 2014, the reset gate after the map of h: x (C,), (h,) -> the next (h,)."""
    (h,) = state
    (xr, xz, xn), (hr, hz, hn) = (w_ih @ x + b_ih).chunk(3), (w_hh @ h + b_hh).chunk(3)
    r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
    return ((1 - z) * (xn + r * hn).tanh() + z * h,)


def layer_weights(layers: nn.Module, layer: int, direction: str = "") -> list[Tensor]:
    return [getattr(layers, f"{name}_l{layer}{direction}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def step(layers: nn.Module, x: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
    """All layers for one token: the top one's hidden state, and the states of all."""
    cell, new = lstm if isinstance(layers, nn.LSTM) else gru, []
    for layer, state in enumerate(states):
        new.append(cell(x, state, *layer_weights(layers, layer)))
        x = new[-1][0]
    return x, new


def nothing(layers: nn.Module, width: int) -> list[State]:
    parts = 2 if isinstance(layers, nn.LSTM) else 1
    return [tuple(torch.zeros(width) for _ in range(parts)) for _ in range(layers.num_layers)]


def read(layers: nn.Module, xs: list[Tensor]) -> tuple[list[Tensor], list[State]]:
    """All tokens of a row: the top hidden states, and the states after the last. In both directions if it does."""
    if layers.bidirectional:
        return read_both_ways(layers, xs)
    states, outputs = nothing(layers, layers.hidden_size), []
    for x in xs:
        y, states = step(layers, x, states)
        outputs.append(y)
    return outputs, states


def read_both_ways(layers: nn.Module, xs: list[Tensor]) -> tuple[list[Tensor], list[State]]:
    cell, ends = lstm if isinstance(layers, nn.LSTM) else gru, []
    for layer in range(layers.num_layers):
        start = nothing(layers, layers.hidden_size)[layer]
        forth, back = start, start
        forths, backs = [], []
        for x in xs:
            forth = cell(x, forth, *layer_weights(layers, layer))
            forths.append(forth[0])
        for x in reversed(xs):
            back = cell(x, back, *layer_weights(layers, layer, "_reverse"))
            backs.insert(0, back[0])
        xs = [torch.cat(pair) for pair in zip(forths, backs, strict=True)]
        ends.append(tuple(torch.cat(pair) for pair in zip(forth, back, strict=True)))
    return xs, ends


def weights_of(scores: list[Tensor]) -> list[Tensor]:
    """Softmax, spelt out."""
    powers = [score.exp() for score in scores]
    return [power / sum(powers) for power in powers]


def mean(weights: list[Tensor], values: list[Tensor]) -> Tensor:
    return sum((w * v for w, v in zip(weights, values, strict=True)), torch.zeros_like(values[0]))
