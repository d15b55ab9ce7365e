"""Walks through a random graph, and models that walk: what the claim on them is made of.

A graph has 21 places and edges in one direction; a walk starts anywhere and ends at place 0, or after 10 steps. It is
as good as it is short: 1 for a shortest one, falling to 0 for one of 10 steps, and 0 for one that does not arrive or
takes an edge that is not there (the task of an example of CarperAI/trlx).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.claims.common import generator
from core.config import PositionConfig
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.vocabulary import IGNORED
from decision.data.windows import Window
from decision.environments.spaces import Space
from decision.models.config import DecisionConfig
from decision.models.decision_transformer import DecisionTransformer
from text.models.gpt import GPT, GPTConfig
from text.presets import modern_core

PLACES, GOAL, STEPS, EDGES = 21, 0, 10, 0.1
Walk = list[int]
"""The places of a walk, its start first."""


@dataclass(frozen=True)
class Map:
    """A graph in which every place leads somewhere and the goal can be reached from each."""

    edges: Tensor  # bool (PLACES, PLACES): row leads to column
    distance: tuple[int, ...]  # steps from each place to the goal, at least

    @property
    def starts(self) -> list[int]:
        """Every place but the goal."""
        return [place for place in range(PLACES) if place != GOAL]

    def optimality(self, walk: Sequence[int]) -> float:
        """How good a walk is, from 0 to 1."""
        steps = len(walk) - 1
        there = all(self.edges[a, b] for a, b in pairwise(walk))
        if not there or walk[-1] != GOAL or steps > STEPS:
            return 0.0
        return (STEPS - steps) / (STEPS - self.distance[walk[0]])


def draw_map(seed: int) -> Map:
    """The first graph of a seed's that is one, none being further from the goal than half of the steps allowed."""
    g = generator(seed, "map")
    while True:
        edges = torch.rand(PLACES, PLACES, generator=g) < EDGES
        edges.fill_diagonal_(False)
        edges[GOAL] = False
        found = distances(edges)
        if edges[1:].any(1).all() and max(found) <= STEPS // 2:
            return Map(edges, tuple(found))


def distances(edges: Tensor) -> list[int]:
    """Steps to the goal from every place, more than there are places where there is no way."""
    reached, found = torch.zeros(PLACES, dtype=torch.bool), [PLACES + 1] * PLACES
    reached[GOAL], found[GOAL] = True, 0
    for step in range(1, PLACES):
        for place in (edges[:, reached].any(1) & ~reached).nonzero().flatten().tolist():
            found[place] = step
        reached = torch.tensor([one <= step for one in found])
    return found


def stroll(graph: Map, count: int, g: torch.Generator) -> list[Walk]:
    """Walks that take any edge, from places that are drawn."""
    walks = []
    for start in torch.randint(1, PLACES, (count,), generator=g).tolist():
        walk = [start]
        while walk[-1] != GOAL and len(walk) <= STEPS:
            walk.append(int(torch.multinomial(graph.edges[walk[-1]].float(), 1, generator=g)))
        walks.append(walk)
    return walks


# ---------------------------------------------------------------------------------------------- a language model


def walker() -> GPT:
    """A model of places, each a token."""
    return GPT(GPTConfig(PLACES, STEPS + 1, "untied", modern_core(64, 2, 4)))


def rows(walks: Sequence[Walk]) -> tuple[Tensor, Tensor]:
    """Places and those that follow each: 2 x int64 (B, STEPS); what stands behind the end of a walk does not count."""
    ids = torch.zeros(len(walks), STEPS, dtype=torch.int64)
    following = torch.full_like(ids, IGNORED)
    for row, walk in enumerate(walks):
        ids[row, : len(walk) - 1], following[row, : len(walk) - 1] = torch.tensor(walk[:-1]), torch.tensor(walk[1:])
    return ids, following


def walked(model: GPT, starts: Sequence[int], seed: int | None = None) -> list[Walk]:
    """How a model goes on from each start: the most probable way, or drawn."""
    model.eval()
    sampling = Sampling(temperature=0.0 if seed is None else 1.0)
    found = complete(model, [[start] for start in starts], STEPS, sampling, seeds=(seed or 0,), stop=[GOAL])
    return [[start, *steps] for start, steps in zip(starts, found, strict=True)]


# ---------------------------------------------------------------------------------------------- a Decision Transformer


def agent() -> DecisionTransformer:
    """It observes a place, and its action is the next one; it is asked for minus the steps that are still to take."""
    place = Space("discrete", (), "int64", counts=(PLACES,), start=(0,))
    core = replace(modern_core(64, 2, 4), position=PositionConfig("none"))  # tokens hold their timestep
    return DecisionTransformer(DecisionConfig(place, place, context=STEPS, max_timestep=STEPS, core=core))


def windows(walks: Sequence[Walk], returns: Sequence[float]) -> Window:
    """Walks as episodes, which begin by asking for these returns; each step costs one."""
    ids, following = rows(walks)
    steps = torch.arange(STEPS).expand(len(walks), STEPS)
    asked = torch.tensor(returns).unsqueeze(1) + steps  # (B, STEPS)
    lengths = torch.tensor([max(1, len(walk) - 1) for walk in walks])
    real = steps < lengths.unsqueeze(1)
    return Window(
        (asked / STEPS).masked_fill(~real, 0.0).unsqueeze(-1).float(),
        ids,
        following.clamp(min=0),
        steps.masked_fill(~real, 0),
        lengths,
    )


def returned(graph: Map, walk: Walk) -> float:
    """Minus the steps of a walk; of one that does not arrive, minus twice the most that there may be."""
    return -float(len(walk) - 1) if walk[-1] == GOAL else -2.0 * STEPS


@torch.no_grad()
def guided(model: DecisionTransformer, graph: Map, starts: Sequence[int]) -> list[Walk]:
    """How an agent goes on that is asked, at each start, for the return of a shortest walk."""
    walks, asked = [[start] for start in starts], [-float(graph.distance[start]) for start in starts]
    for _ in range(STEPS):
        going = [n for n, walk in enumerate(walks) if walk[-1] != GOAL]
        if not going:
            break
        ahead = windows([[*walks[n], GOAL] for n in going], [asked[n] for n in going])
        chosen = model(ahead)[torch.arange(len(going)), ahead.lengths - 1].argmax(-1)
        for n, place in zip(going, chosen.tolist(), strict=True):
            walks[n].append(place)
    return walks


def mean_optimality(graph: Map, walks: Sequence[Walk]) -> float:
    """Of several walks."""
    return sum(map(graph.optimality, walks)) / len(walks)


def scores(graph: Map, walks: Sequence[Walk]) -> Tensor:
    """Of each: float32 (B,)."""
    return torch.tensor([graph.optimality(walk) for walk in walks])
