"""The beams of every prompt as tokens of one row: which of them a beam attends to is a graph, and no key ever moves.

A row of the state holds the tokens of its prompt, then, step after step, one token of each beam. A beam attends to the
prompt and to its own tokens among all of these, so that going on with another beam changes an index, and the queries of
all beams of a prompt meet its keys in one matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from core.decoding.window import Continuations, Decodable, DecodingState
from core.graph import Graph


class Branching(Decodable, Protocol):
    """A model whose state can hold several beams in one row."""

    @property
    def branches(self) -> bool:
        """Whether it can as it is configured: a window counts places, which other beams would fill."""

    def branch(self, ids: Tensor, place: int, lineage: Graph, state: Any) -> Tensor:
        """Append a token of each beam, ids (P, K), all at `place`, to the state; the logits (P, K, V) of what follows.

        lineage: which of the tokens held, and of these, each beam attends to
        """


@dataclass(frozen=True, eq=False)
class Lineage(Graph):
    """Each of the newest tokens attends to itself and its ancestors: bool (P, K, held), those K being the last held."""

    ancestors: Tensor
    shared = False

    def edges(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        queries, held = self.ancestors.shape[1:]
        return self.ancestors[b, q - (held - queries), k]

    def mask(self, batch: int, queries: int, keys: int, start: int = 0, device: torch.device | None = None) -> Tensor:
        return self.ancestors


class Tree:
    """The tokens of the beams of a batch so far, and a state that has read all but the newest, as `Continuations`.

    prompts: one list of ids a prompt, all of one length. room: how many tokens will be pushed at most. beams: the most
    of a prompt.
    """

    def __init__(
        self, model: Branching, prompts: Sequence[Sequence[int]], room: int, beams: int, device: torch.device | str
    ):
        self.model, self.width = model, len(prompts[0])
        self.tokens = torch.tensor([[*prompt] for prompt in prompts], device=device)  # (P K, width); K = 1 at first
        self.state: DecodingState = model.new_state(len(prompts), self.width + (room - 1) * beams)
        self.ancestors: Tensor | None = None  # bool (P, K, held): which of the tokens held each beam descends from

    @property
    def history(self) -> Tensor:
        """All tokens so far, (P K, width)."""
        return self.tokens

    def logits(self) -> Tensor:
        """Read what has not been read, and return the logits (P K, V) of what follows."""
        if self.ancestors is None:
            self.ancestors = self.tokens.new_ones(len(self.tokens), 1, self.width, dtype=torch.bool)
            return self.model.step(self.tokens, self.state)
        prompts, beams, _ = self.ancestors.shape
        own = torch.eye(beams, dtype=torch.bool, device=self.tokens.device).expand(prompts, -1, -1)
        self.ancestors = torch.cat((self.ancestors, own), dim=-1)
        ids = self.tokens[:, -1].view(prompts, beams)
        return self.model.branch(ids, self.width - 1, Lineage(self.ancestors), self.state).flatten(0, 1)

    def push(self, ids: Tensor) -> None:
        """Append one token to each beam, int64 (P K,)."""
        self.tokens = torch.cat((self.tokens, ids.unsqueeze(-1)), dim=-1)
        self.width += 1

    def reorder(self, rows: Tensor) -> None:
        """Beams become what rows[p, k] were, int64 (P, K), among those of one prompt."""
        assert self.ancestors is not None
        self.ancestors = self.ancestors.flatten(0, 1)[rows]  # (P, K, held)
        self.tokens = self.tokens[rows.flatten()]

    def keep(self, rows: Tensor) -> None:
        """Go on with these beams, int64 (P', K'), each row of one prompt: with fewer prompts, or with more beams."""
        assert self.ancestors is not None
        before, beams, _ = self.ancestors.shape
        if len(rows) < before:
            self.state.keep(rows[:, 0] // beams)
        self.reorder(rows)


def grow(
    model: Decodable, prompts: Sequence[Sequence[int]], room: int, beams: int, device: torch.device | str
) -> Tree | Continuations:
    """The tokens of a search that begins: as a tree where the model has branches and its context holds them all."""
    width, one_width = len(prompts[0]), len({len(prompt) for prompt in prompts}) == 1
    if getattr(model, "branches", False) and one_width and width + room <= model.context:
        return Tree(model, prompts, room, beams, device)  # type: ignore[arg-type]
    return Continuations(model, prompts, room, device)
