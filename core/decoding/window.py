"""What decoding needs of a model, and what the model then attends to: a window that grows, then is filled anew.

Dropping the first tokens from a state would be wrong, since deeper layers have already taken them in. Filling it anew
is exact for the tokens that it then holds, and its cost is spread over the tokens until the next refill.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from core.decoding.cache import sources_of
from core.graph import Graph, select

STOPPED = -1
"""What a row yields once it has met a stop token."""
LEAVE = 1 / 4
"""Rows leave a batch once they are at least this fraction of it, since each time what the others hold is copied."""


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

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, int64 (B',): fewer, or more where some are repeated."""


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
        self.context = model.context

    def new_state(self, batch: int, capacity: int) -> "BoundState":
        """An empty state of the model, with the sources of its rows."""
        return BoundState(self.model.new_state(batch, capacity), self.memory, self.graph, batch)

    def step(self, ids: Tensor, state: "BoundState", pads: Tensor | None = None) -> Tensor:
        """Append ids (B, T) to the state; the logits (B, V) of what follows."""
        return self.model.step(ids, state.own, pads, memory=state.memory, memory_graph=state.graph)

    @property
    def branches(self) -> bool:
        """Whether the model can hold several beams in one row (`core.decoding.tree.Branching`)."""
        return getattr(self.model, "branches", False)

    def branch(self, ids: Tensor, place: int, lineage: Graph, state: "BoundState") -> Tensor:
        """Append one token of each beam, ids (P, K), to the state; the logits (P, K, V) of what follows."""
        return self.model.branch(ids, place, lineage, state.own, memory=state.memory, memory_graph=state.graph)


class BoundState:
    """What a bound decoder keeps: its own state, and the sources of the rows that are still decoded."""

    def __init__(self, own: DecodingState, memory: Tensor, graph: Graph | None, batch: int):
        self.own, self.memory, self.graph, self.batch = own, memory, graph, batch
        self.reset, self.reorder = own.reset, own.reorder

    @property
    def capacity(self) -> int:
        return self.own.capacity

    @property
    def length(self) -> int:
        return self.own.length

    def keep(self, rows: Tensor) -> None:
        sources = sources_of(rows, self.batch // len(self.memory))
        self.own.keep(rows)
        self.memory, self.batch = self.memory[sources], len(rows)
        self.graph = None if self.graph is None else select(self.graph, sources)


class DecodingWindow:
    """The places, counted from 0, that a state holds: at most `capacity`, and the last `fraction` after a refill."""

    def __init__(self, state: DecodingState, capacity: int, fraction: float, first: int = 0):
        self.state, self.capacity, self.first = state, capacity, first
        self.kept = max(1, int(capacity * fraction))

    def extend(self, end: int) -> int:
        """Let the window reach to place `end`, exclusive: how many places left it; unless 0, its state was reset."""
        if end - self.first <= self.capacity:
            return 0
        left = end - self.kept - self.first
        self.first += left
        self.state.reset()
        return left


class Continuations:
    """The tokens of a batch so far, and a state that has read them.

    prompts: one list of ids per row, none empty. room: how many tokens will be pushed at most.
    """

    def __init__(self, model: Decodable, prompts: Sequence[Sequence[int]], room: int, device: torch.device | str):
        check_prompts(prompts)
        self.model, self.width = model, max(map(len, prompts))
        tokens = torch.full((len(prompts), self.width + room), STOPPED)
        for row, prompt in enumerate(prompts):
            tokens[row, self.width - len(prompt) : self.width] = torch.tensor(prompt)
        self.tokens = tokens.to(device)  # (B, width + room), padded on the left
        self.pads = torch.tensor([self.width - len(p) for p in prompts], device=device)  # (B,)
        self.most_pads = int(self.pads.max())
        capacity = min(model.context, self.width + room)
        self.state: DecodingState = model.new_state(len(prompts), capacity)
        self.read = max(0, self.width - capacity)  # the next place to be read
        self.window = DecodingWindow(self.state, capacity, fraction=1 / 2, first=self.read)

    @property
    def history(self) -> Tensor:
        """All tokens so far, (B, width); STOPPED where there is nothing."""
        return self.tokens[:, : self.width]

    def logits(self) -> Tensor:
        """Read what has not been read, and return the logits (B, V) of what follows."""
        if self.window.extend(self.width):
            self.read = self.window.first
        ids = self.tokens[:, self.read : self.width].clamp(min=0)  # (B, T)
        self.read = self.width
        return self.model.step(ids, self.state, self.padding())

    def padding(self) -> Tensor | None:
        """Pads at the head of what the state holds, (B,); None where no row has any."""
        first = self.window.first
        return (self.pads - first).clamp(min=0) if first < self.most_pads else None

    def push(self, ids: Tensor) -> None:
        """Append one token to each row, int64 (B,)."""
        self.tokens[:, self.width] = ids
        self.width += 1

    def reorder(self, rows: Tensor) -> None:
        """Rows become what rows[i] were, int64 (B,) or (P, K); rows move among those of one source only."""
        rows = rows.flatten()
        self.tokens, self.pads = self.tokens[rows], self.pads[rows]
        self.state.reorder(rows)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, int64 (B',) or (P', K'): fewer, or more where some are repeated."""
        rows = rows.flatten()
        self.tokens, self.pads = self.tokens[rows], self.pads[rows]
        self.state.keep(rows)


def staying(over: Tensor) -> Tensor:
    """The rows that stay in a batch, int64, from whether each is over, bool (B,): all, until enough are over."""
    stay = (~over).nonzero().flatten()
    return stay if len(over) - len(stay) >= max(1, LEAVE * len(over)) else torch.arange(len(over), device=over.device)


def check_prompts(prompts: Sequence[Sequence[int]]) -> None:
    """Raise ValueError unless there is a prompt, and none is empty."""
    if not prompts:
        raise ValueError("prompts = []: at least one is needed")
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {row} is empty: at least one token is needed")
