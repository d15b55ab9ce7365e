"""Span corruption (Raffel 2020, 3.1.4): spans of a text are left out, and the target says what they were.

In the source a sentinel, another one for each span, stands in place of every span that is left out. The target holds
each sentinel and behind it the tokens of its span. Both end with the token that ends a text:

    Thank you <0> me to your party <1> week .    <0> for inviting <1> last
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.checks import check_between, check_positive
from core.training.order import Indices, stream

Tokens = NDArray[np.int64]


class Lengths(NamedTuple):
    """Of a window: its tokens, those left out and the spans that they are in; then of its source and its target."""

    tokens: int
    noise: int
    spans: int
    source: int
    target: int


@dataclass(frozen=True, eq=False)
class SpanCorruption:
    """How spans are left out.

    sentinels: their ids, in the order of the spans
    eos: the id that ends a source and a target
    noise: fraction of the tokens that is left out
    span: mean number of tokens of a span

    What is left out of a window is a pure function of (seed, purpose, index of the window). All windows of a length
    have sources of one length and targets of one length. Every set of spans of these lengths that do not touch is
    equally likely.
    """

    sentinels: Sequence[int]
    eos: int
    noise: float = 0.15
    span: float = 3.0

    def __post_init__(self) -> None:
        check_between(self, 0.0, 1.0, "noise")
        check_positive(self, "noise", "span")

    def lengths(self, tokens: int) -> Lengths:
        """The lengths that follow from that of a window, of at least 2 tokens. ValueError for too few sentinels."""
        noise = min(max(1, round(self.noise * tokens)), tokens - 1)
        spans = min(max(1, round(noise / self.span)), noise, tokens - noise)
        if spans > len(self.sentinels):
            raise ValueError(
                f"a window of {tokens} tokens has {spans} spans, there are only {len(self.sentinels)} sentinels: "
                "take a shorter context, longer spans or less noise"
            )
        return Lengths(tokens, noise, spans, tokens - noise + spans + 1, noise + spans + 1)

    def longest(self, context: int) -> Lengths:
        """Those of the longest window whose source and target have at most `context` tokens.

        Raises ValueError for a context into which no window fits.
        """
        if context < 3:
            raise ValueError(f"context = {context} must be at least 3 for a token, a sentinel and the end of a text")
        tokens = 2
        while max((after := self.lengths(tokens + 1)).source, after.target) <= context:
            tokens += 1
        return self.lengths(tokens)

    def corrupt(self, window: Tokens, seed: int, purpose: str, index: int) -> tuple[Tokens, Tokens]:
        """The source and the target of a window: 3 x int64 of the numbers of tokens that `lengths` gives."""
        _, noise, spans, _, _ = self.lengths(len(window))
        random = stream(seed, purpose, index).random_raw
        sizes = composition(random(noise), noise, spans)
        kept = len(window) - noise
        gaps = np.sort(np.argsort(random(kept + 1), kind="stable")[:spans])  # kept tokens before each span
        starts = gaps + np.cumsum(sizes) - sizes
        return self._cut(window, starts, starts + sizes)

    def _cut(self, window: Tokens, starts: Indices, ends: Indices) -> tuple[Tokens, Tokens]:
        """The source and the target that leave out the tokens from starts[i] to ends[i]: 2 x int64 (spans,)."""
        marks = np.asarray(self.sentinels[: len(starts)], np.int64)
        kept = zip([0, *ends], [*starts, len(window)], strict=True)
        outside, inside = ([window[a:b] for a, b in pairs] for pairs in (kept, zip(starts, ends, strict=True)))
        end = [np.array([self.eos])]
        source = [piece for both in zip(outside, [*marks[:, None], end[0]], strict=True) for piece in both]
        target = [piece for both in zip(marks[:, None], inside, strict=True) for piece in both]
        return np.concatenate(source), np.concatenate(target + end)


def composition(random: NDArray[np.uint64], total: int, parts: int) -> Indices:
    """One of all the ways to write a total as a sum of so many positive numbers, each equally likely: int64 (parts,).

    random: uint64 (total,)
    """
    cuts = np.sort(np.argsort(random[: total - 1], kind="stable")[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))


def fill_spans(source: Sequence[int], target: Sequence[int], sentinels: Sequence[int], eos: int) -> list[int]:
    """The text of a source and a target: each sentinel of the one is replaced by what follows it in the other.

    What ends them is left out. A sentinel of the source that the target lacks is replaced by nothing.
    """
    marks, spans = {*sentinels}, split_spans(target, sentinels, [eos])
    filled = (spans.get(token, []) if token in marks else [token] for token in source if token != eos)
    return [token for span in filled for token in span]


def split_spans(target: Sequence[int], sentinels: Sequence[int], ends: Sequence[int]) -> dict[int, list[int]]:
    """The tokens behind each sentinel of a target, up to the first of those that end it."""
    marks, spans = {*sentinels}, dict[int, list[int]]()
    current: list[int] = []  # what stands before the first sentinel is dropped
    for token in target:
        if token in ends:
            break
        if token in marks:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    return spans
