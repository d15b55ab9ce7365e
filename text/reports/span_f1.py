"""Precision, recall and F1 of spans, such as names, by the rules of conlleval (Tjong Kim Sang & Buchholz 2000)."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

SPAN_TAG = re.compile(r"[BIES]-(?P<kind>.+)", re.DOTALL)
OUTSIDE = "O"


class Span(NamedTuple):
    """Words from `start` on, up to but without `end`."""

    start: int
    end: int
    kind: str


class SpanCounts(NamedTuple):
    """How many spans there are, were found, and were found with the right words and kind."""

    true: int = 0
    found: int = 0
    correct: int = 0

    @classmethod
    def of(cls, true: Iterable[Sequence[str]], found: Iterable[Sequence[str]]) -> Self:
        """Of sentences, each with its true tags and those that were found."""
        total = cls()
        for expected, answered in zip(true, found, strict=True):
            a, b = spans(expected), spans(answered)
            total = cls(total.true + len(a), total.found + len(b), total.correct + len({*a} & {*b}))
        return total

    def figures(self) -> dict[str, float]:
        """span_precision, span_recall and span_f1 in 0..1; 0 where there is nothing to divide by."""
        precision, recall = self.correct / max(1, self.found), self.correct / max(1, self.true)
        f1 = 2 * precision * recall / (precision + recall) if self.correct else 0.0
        return {"span_precision": precision, "span_recall": recall, "span_f1": f1}


def mark_spans(names: Iterable[str]) -> bool:
    """Whether tags of these names mark spans: O, and others that begin with B-, I-, E- or S-."""
    marked = [name for name in names if name != OUTSIDE]
    return bool(marked) and all(map(SPAN_TAG.fullmatch, marked))


def spans(tags: Sequence[str]) -> list[Span]:
    """The spans that the tags of a sentence mark, in order.

    B begins a span, S is one of a single word, E ends one, I goes on; but an I or an E that follows nothing of its kind
    begins a span as well, so that the tags of IOB1, IOB2 and IOBES are all read.
    """
    found: list[Span] = []
    start, before, kind = 0, OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, own = tag[:1], tag[2:]
        inside = before != OUTSIDE
        if inside and (_ends(before, prefix) or own != kind):
            found.append(Span(start, place, kind))
            inside = False
        if not inside:
            start = place
        before, kind = prefix, own
    return found


def _ends(before: str, prefix: str) -> bool:
    """Whether a span ends between two words of one kind, by the prefixes of their tags."""
    return before in "ES" or prefix in "BSO"
