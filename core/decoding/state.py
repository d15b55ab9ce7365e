"""What decoding needs of a model, and of what the model keeps between two tokens."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from core.graph import Graph


class DecodingState(Protocol):
    """What a model keeps of the tokens it has read, for B rows: keys and values, or the state of an LSTM."""

    @property
    def capacity(self) -> int:
        """The most tokens per row that it can hold."""

    @property
    def length(self) -> int:
        """Tokens per row that it holds."""

    def reset(self) -> None:
        """Forget everything."""

    def reorder(self, rows: Tensor) -> None:
        """Row i becomes what row rows[i] was (beams), int64 (B,); rows move among those of one source only."""


class Decodable(Protocol):
    """A model that can be decoded."""

    @property
    def context(self) -> int:
        """The most tokens it can attend to, those of a source apart."""

    def new_state(self, batch: int, capacity: int) -> Any:
        """An empty `DecodingState` for `batch` rows of up to `capacity` tokens."""

    def step(self, ids: Tensor, state: Any, pads: Tensor | None = None) -> Tensor:
        """Append ids (B, T) to the state; the logits (B, V) of what follows. Row b begins with pads[b] pads."""


class Bound:
    """A decoder bound to its sources, which makes it `Decodable`.

    model:  as `Decodable`, its `step` taking `memory` and `memory_graph` as well
    memory: (S, N, D), the encoded sources; S divides the number of rows that are decoded, and successive rows share
            a source, such as the beams of one
    graph:  which tokens attend to which of their source's (default all): the padding of the sources
    """

    def __init__(self, model: Any, memory: Tensor, graph: Graph | None = None):
        self.model, self.memory, self.graph = model, memory, graph
        self.context, self.new_state = model.context, model.new_state

    def step(self, ids: Tensor, state: Any, pads: Tensor | None = None) -> Tensor:
        """Append ids (B, T) to the state; the logits (B, V) of what follows."""
        return self.model.step(ids, state, pads, memory=self.memory, memory_graph=self.graph)
