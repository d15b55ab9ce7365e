"""Span corruption: source and target together are the text, each token once, and nothing is padding."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.training.order import stream
from text.corpus.sequences import learn_bpe, special_ids
from text.corruption.sentinels import named_sentinels, sentinel_ids, with_sentinels
from text.corruption.spans import SpanCorruption, composition, fill_spans
from text.tokens.base import ByteTokenizer
from text.tokens.load import load_tokenizer

EOS, SENTINELS = 1, range(1099, 999, -1)
LENGTHS = st.integers(2, 300)
NOISES, SPANS = st.floats(0.02, 0.9), st.floats(1.0, 12.0)


def made(noise: float = 0.15, span: float = 3.0, sentinels: range = SENTINELS) -> SpanCorruption:
    return SpanCorruption(sentinels, EOS, noise, span)


@given(LENGTHS, NOISES, SPANS, st.integers(0, 9))
def test_source_and_target_put_together_are_the_text(tokens: int, noise: float, span: float, seed: int) -> None:
    corruption = made(noise, span, range(1999, 999, -1))
    window = np.random.default_rng(seed).integers(2, 900, tokens)
    source, target = (side.tolist() for side in corruption.corrupt(window, seed, "test", 7))
    assert fill_spans(source, target, corruption.sentinels, EOS) == window.tolist()
    text = [token for token in (*source, *target) if 2 <= token < 900]
    assert Counter(text) == Counter(window.tolist())  # each token exactly once
    lengths = corruption.lengths(tokens)
    assert (len(source), len(target)) == (lengths.source, lengths.target)
    assert source[-1] == target[-1] == EOS
    marks = [*corruption.sentinels[: lengths.spans]]
    assert [token for token in source if token >= 1000] == [token for token in target if token >= 1000] == marks
    assert not any(one >= 1000 and other >= 1000 for one, other in pairwise(source))  # spans do not touch
    assert target[0] == marks[0]


@given(LENGTHS, NOISES, SPANS)
def test_so_much_is_left_out_as_was_asked_for(tokens: int, noise: float, span: float) -> None:
    lengths = made(noise, span, range(1999, 999, -1)).lengths(tokens)
    assert 1 <= lengths.spans <= lengths.noise < tokens
    assert abs(lengths.noise - noise * tokens) <= 1
    if lengths.noise > 1 and lengths.spans < tokens - lengths.noise:
        assert abs(lengths.spans - max(1, lengths.noise / span)) <= 0.5


@given(st.integers(3, 400), NOISES, SPANS)
def test_the_longest_window_fills_the_context(context: int, noise: float, span: float) -> None:
    corruption = made(noise, span, range(1999, 999, -1))
    longest = corruption.longest(context)
    assert max(longest.source, longest.target) <= context
    more = corruption.lengths(longest.tokens + 1)
    assert max(more.source, more.target) > context


def test_at_the_usual_settings_the_source_is_full() -> None:
    """As T5's: windows of 568 tokens make sources of 512 and targets of 114."""
    assert made().longest(512) == (568, 85, 28, 512, 114)


def test_every_set_of_spans_is_equally_likely() -> None:
    """6 tokens with 2 spans of 2 and 1 tokens, which do not touch: 2 orders, 6 places each."""
    corruption, window = made(0.5, 1.5), np.arange(2, 8)
    sources = Counter(tuple(corruption.corrupt(window, 0, "test", row)[0].tolist()) for row in range(6000))
    assert len(sources) == 12
    assert min(sources.values()) > 500 - 6 * np.sqrt(500)


def test_every_sum_is_equally_likely() -> None:
    drawn = Counter(tuple(composition(stream(0, "test", n).random_raw(6), 6, 3).tolist()) for n in range(5000))
    assert len(drawn) == 10
    assert all(sum(parts) == 6 and min(parts) >= 1 for parts in drawn)
    assert min(drawn.values()) > 500 - 6 * np.sqrt(500)


def test_it_depends_on_seed_purpose_and_row_alone() -> None:
    window = np.arange(2, 102)
    first = made().corrupt(window, 0, "test", 5)[0]
    assert np.array_equal(made().corrupt(window, 0, "test", 5)[0], first)
    for key in ((1, "test", 5), (0, "else", 5), (0, "test", 6)):
        assert not np.array_equal(made().corrupt(window, *key)[0], first)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="a window of 100 tokens has 5 spans, there are only 3 sentinels"):
        made(sentinels=range(1002, 999, -1)).lengths(100)
    with pytest.raises(ValueError, match="context = 2 must be at least 3"):
        made().longest(2)
    with pytest.raises(ValueError, match="noise = 0.0 must be above 0"):
        made(noise=0.0)


def test_sentinels_are_the_last_ids_counted_downwards(tmp_path: object) -> None:
    plain = learn_bpe(["a house by the sea"] * 9, 300)
    tokenizer = with_sentinels(plain, 5)
    size = plain.vocab_size
    assert tokenizer.vocab_size == size + 5
    assert named_sentinels(tokenizer) == sentinel_ids(tokenizer, 9).ids == [*range(size + 4, size - 1, -1)]
    assert with_sentinels(tokenizer, 9) is tokenizer  # it has its own
    text = "<extra_id_0> is text here"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(text).tolist() == plain.encode(text).tolist()
    assert special_ids(tokenizer)[:3] == special_ids(plain)[:3]
    tokenizer.save(str(tmp_path))
    assert load_tokenizer(str(tmp_path)) == tokenizer


def test_where_a_tokenizer_has_none_they_follow_its_special_tokens() -> None:
    byte = ByteTokenizer()
    assert with_sentinels(byte, 4) is byte
    assert sentinel_ids(byte, 4) == ([262, 261, 260, 259], 263)
