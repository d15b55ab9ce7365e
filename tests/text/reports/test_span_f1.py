"""Spans against conlleval's rules, written down as the loop of its script, and against counts made by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.reports.span_f1 import Span, SpanCounts, mark_spans, spans


def conlleval(true: list[list[str]], found: list[list[str]]) -> tuple[int, int, int]:
    """Spans that are there, found and correct, counted word by word as conlleval does it for tags of B, I and O."""
    counts = [0, 0, 0]
    for expected, answered in zip(true, found, strict=True):
        open_both, before = False, ("O", "O")
        for pair in [*zip(expected, answered, strict=True), ("O", "O")]:
            starts, stops = zip(*(_bounds(old, new) for old, new in zip(before, pair, strict=True)), strict=True)
            if open_both and all(stops):
                counts[2] += 1
            if any(stops):
                open_both = False
            if all(starts):
                open_both = pair[0][2:] == pair[1][2:]
            elif any(starts):
                open_both = False
            counts[0] += starts[0]
            counts[1] += starts[1]
            before = pair
    return counts[0], counts[1], counts[2]


def _bounds(old: str, new: str) -> tuple[bool, bool]:
    """Whether a span begins with the word of the tag `new`, and whether one has ended before it."""
    other = old[2:] != new[2:]
    begins = new[0] == "B" or (new[0] == "I" and (old == "O" or other))
    ends = old != "O" and (new[0] in "BO" or other)
    return begins, ends


TAGS = st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"])
SENTENCES = st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=8), min_size=1, max_size=4)


@given(SENTENCES)
def test_counts_are_those_of_conlleval(sentences: list[list[tuple[str, str]]]) -> None:
    true = [[expected for expected, _ in sentence] for sentence in sentences]
    found = [[answered for _, answered in sentence] for sentence in sentences]
    assert SpanCounts.of(true, found) == conlleval(true, found)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-A I-A O B-A", [Span(0, 2, "A"), Span(3, 4, "A")]),
        ("I-A I-A O I-B", [Span(0, 2, "A"), Span(3, 4, "B")]),
        ("B-A B-A I-B", [Span(0, 1, "A"), Span(1, 2, "A"), Span(2, 3, "B")]),
        ("S-A B-A E-A E-A", [Span(0, 1, "A"), Span(1, 3, "A"), Span(3, 4, "A")]),
        ("B-A I-A E-A I-A", [Span(0, 3, "A"), Span(3, 4, "A")]),
        ("S-A S-A O", [Span(0, 1, "A"), Span(1, 2, "A")]),
        ("O O", []),
    ],
)
def test_spans_of_every_scheme(tags: str, expected: list[Span]) -> None:
    assert spans(tags.split()) == expected


def test_figures_by_hand() -> None:
    true = ["B-PER I-PER O B-LOC".split(), "O B-ORG".split()]
    found = ["B-PER I-PER O B-ORG".split(), "B-ORG B-ORG".split()]
    counts = SpanCounts.of(true, found)
    assert counts == (3, 4, 2)
    assert counts.figures() == {
        "span_precision": 0.5,
        "span_recall": pytest.approx(2 / 3),
        "span_f1": pytest.approx(4 / 7),
    }
    assert SpanCounts().figures() == dict.fromkeys(("span_precision", "span_recall", "span_f1"), 0.0)


def test_a_span_does_not_reach_into_the_next_sentence() -> None:
    assert SpanCounts.of([["B-A"], ["I-A"]], [["B-A"], ["I-A"]]) == (2, 2, 2)


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("O", "B-A", "I-A"), True), (("NOUN", "VERB"), False), (("O",), False), (("O", "B-A", "X"), False)],
)
def test_which_tags_mark_spans(names: tuple[str, ...], expected: bool) -> None:
    assert mark_spans(names) is expected
