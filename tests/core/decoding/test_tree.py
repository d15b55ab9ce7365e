"""Beams as tokens of one row are found as beams in rows of their own are, and nothing that is held is moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from core.decoding.beams import Hypothesis, beam_search
from core.decoding.cache import Cache
from core.decoding.tree import Lineage, Tree, grow
from core.decoding.window import Continuations
from core.graph import Span, route
from tests.core.helpers import awake, shape
from text.models.encoder_decoder import EncoderDecoderConfig, Seq2Seq, shape_2017

LENGTHS = torch.tensor([7, 3, 5, 1])


def model(position: str = "rotary", vocabulary: int = 9, seed: int = 1, **core: Any) -> Seq2Seq:
    own = shape(position, n_kv_heads=2, **{"direction": "both"} | core)
    return awake(Seq2Seq(EncoderDecoderConfig(vocab_size=vocabulary, context=16, head="untied", core=own)), seed)


def sources(vocabulary: int = 9) -> Tensor:
    return torch.randint(0, vocabulary, (4, 7), generator=torch.Generator().manual_seed(5))


def found(m: Seq2Seq, beams: int, count: int = 8, vocabulary: int = 9, **options: Any) -> list[list[Hypothesis]]:
    return beam_search(m.bind(sources(vocabulary), LENGTHS), [[0]] * 4, count, beams, eos=2, **options)


@pytest.mark.parametrize("position", ["rotary", "learned", "sinusoidal", "alibi", "t5"])
@pytest.mark.parametrize(("beams", "n_best"), [(1, 1), (4, 1), (4, 4)])
def test_beams_in_one_row_are_those_in_rows_of_their_own(position, beams, n_best, monkeypatch):
    for seed in range(4):
        m = model(position, seed=seed)
        together = found(m, beams, n_best=n_best)
        with monkeypatch.context() as patch:
            patch.setattr(Seq2Seq, "branches", False)
            apart = found(m, beams, n_best=n_best)
        for got, expected in zip(together, apart, strict=True):
            assert [h.tokens for h in got] == [h.tokens for h in expected]
            torch.testing.assert_close([h.score for h in got], [h.score for h in expected], atol=1e-4, rtol=0)


def test_wide_beams_are_as_many_as_there_are_continuations(monkeypatch):
    """Their number grows from step to step: 1, 3, 9 that go on."""
    m = model(vocabulary=4)
    together = found(m, 64, 3, vocabulary=4, length_penalty=0.0)
    assert {len(each) for each in together} == {1 + 3 + 9 * 4}  # those that end, and of three tokens all
    monkeypatch.setattr(Seq2Seq, "branches", False)
    for got, expected in zip(together, found(m, 64, 3, vocabulary=4, length_penalty=0.0), strict=True):
        assert [h.tokens for h in got] == [h.tokens for h in expected]


def test_no_key_is_moved_but_to_leave_the_batch(monkeypatch):
    m, kept = model(), []
    keep = Cache.keep
    monkeypatch.setattr(Cache, "reorder", lambda *_: pytest.fail("keys were moved"))
    monkeypatch.setattr(Cache, "keep", lambda self, rows: kept.append(len(rows)) or keep(self, rows))
    m.head.weight.data[2] *= 3  # some searches are over early
    found(m, 4, 12, n_best=1)
    assert kept == sorted(kept, reverse=True)
    assert all(rows < 4 for rows in kept)


def test_a_lineage_is_the_graph_of_its_ancestors():
    table = torch.rand(2, 3, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    table[:, :, -3:] = torch.eye(3, dtype=torch.bool)
    lineage = Lineage(table)
    b, q, k = torch.arange(2).view(-1, 1, 1), torch.arange(5, 8).view(1, -1, 1), torch.arange(8).view(1, 1, -1)
    assert torch.equal(lineage.edges(b, q, k), table)
    made = route(lineage, Span(2, 3, 8, 5), torch.device("cpu"))
    assert made.mask is not None
    assert torch.equal(made.mask[:, 0], table)
    assert made.fully_masked is None


def test_what_a_row_cannot_hold_is_searched_in_rows_of_their_own():
    """A window counts places; prompts of several lengths begin at several places; a context may be too short."""
    plain, windowed = model(), model(window=3, window_layers=(0,))
    starts: list[list[int]] = [[0]] * 4
    assert (plain.branches, windowed.branches) == (True, False)
    bound = plain.bind(sources(), LENGTHS)
    assert isinstance(grow(bound, starts, 8, 4, "cpu"), Tree)
    for of, prompts, room in (
        (windowed.bind(sources(), LENGTHS), starts, 8),
        (bound, [[0], [0, 1]], 8),
        (bound, starts, 16),
    ):
        assert isinstance(grow(of, prompts, room, 4, "cpu"), Continuations)


def test_half_precision_finds_translations_of_about_the_same_score():
    m = awake(Seq2Seq(replace(shape_2017(32, 2, 4, 48, dropout=0.0, context=16), vocab_size=9)))
    exact = found(m, 4, n_best=1)
    for got, expected in zip(found(m.bfloat16(), 4, n_best=1), exact, strict=True):
        assert got[0].score == pytest.approx(expected[0].score, abs=0.3)
