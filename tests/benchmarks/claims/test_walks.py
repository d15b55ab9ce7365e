"""Walks through a graph, and what models are told of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from benchmarks.claims.common import generator, seeded
from benchmarks.claims.materials.walks import (
    GOAL,
    PLACES,
    STEPS,
    Map,
    agent,
    distances,
    draw_map,
    guided,
    returned,
    rows,
    stroll,
    walked,
    walker,
    windows,
)
from core.vocabulary import IGNORED


def chain() -> Map:
    """3 leads to 2 and 1, 2 to 1, 1 to 0; nothing else leads anywhere."""
    edges = torch.zeros(PLACES, PLACES, dtype=torch.bool)
    for a, b in ((3, 2), (3, 1), (2, 1), (1, 0)):
        edges[a, b] = True
    return Map(edges, tuple(distances(edges)))


def test_distances_are_those_of_shortest_walks() -> None:
    assert distances(chain().edges)[:5] == [0, 1, 2, 2, PLACES + 1]


@pytest.mark.parametrize(
    ("walk", "good"),
    [([3, 1, 0], 1.0), ([3, 2, 1, 0], 7 / 8), ([3, 0], 0.0), ([3, 2, 1], 0.0), ([1, 0], 1.0)],
)
def test_a_walk_is_as_good_as_it_is_short_and_none_that_jumps_or_stops_is(walk: list[int], good: float) -> None:
    assert chain().optimality(walk) == pytest.approx(good)


def test_random_walks_follow_edges_and_end_at_the_goal() -> None:
    graph = draw_map(3)
    for walk in stroll(graph, 50, generator(0, "test")):
        assert all(graph.edges[a, b] for a, b in pairwise(walk))
        assert walk[-1] == GOAL or len(walk) == STEPS + 1
        assert GOAL not in walk[:-1]


def test_what_a_model_reads_is_followed_by_what_it_says() -> None:
    ids, following = rows([[3, 1, 0], [2, 1]])
    assert ids[:, :3].tolist() == [[3, 1, 0], [2, 0, 0]]
    assert following[:, :3].tolist() == [[1, 0, IGNORED], [1, IGNORED, IGNORED]]


def test_an_agent_is_asked_for_the_steps_that_are_left() -> None:
    window = windows([[3, 1, 0], [2, 1]], [returned(chain(), [3, 1, 0]), -2.0 * STEPS])
    assert (STEPS * window.returns[0, :3, 0]).tolist() == pytest.approx([-2, -1, 0])
    assert (STEPS * window.returns[1, :2, 0]).tolist() == pytest.approx([-2 * STEPS, 0])
    assert window.lengths.tolist() == [2, 1]
    assert window.actions[0, :2].tolist() == [1, 0]


def test_models_walk_from_every_start_until_the_goal() -> None:
    graph = draw_map(0)
    for found in (
        walked(seeded(0, walker), graph.starts, seed=1),
        guided(seeded(0, agent).eval(), graph, graph.starts),
    ):
        assert [walk[0] for walk in found] == graph.starts
        assert all(len(walk) == STEPS + 1 or walk[-1] == GOAL for walk in found)
