"""What is hidden: so many tokens of each row, never a special one, drawn from (seed, purpose, row) alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from text.corpus.sequences import learn_bpe
from text.corruption.masking import Masking, build_masking, masked_ids
from text.tokens.base import ByteTokenizer

MASK, SPECIAL, VOCABULARY = 3, 4, 40  # the ids below SPECIAL are no text
KINDS = st.sampled_from(["bert", "mask"])
ORDINARY = np.arange(VOCABULARY) >= SPECIAL


def windows(count: int, width: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, VOCABULARY, (count, width))


@given(st.integers(1, 5), st.integers(1, 60), st.integers(0, 9), st.floats(0.01, 0.99), KINDS)
def test_what_is_hidden_can_be_put_back_and_nothing_else_changes(
    count: int, width: int, seed: int, fraction: float, replacement: str
) -> None:
    rows = windows(count, width, seed)
    masking = Masking(MASK, ORDINARY, fraction, replacement)  # type: ignore[arg-type]
    ids, places, targets = (tensor.numpy().copy() for tensor in masking.hide(rows, seed, "test", range(count)))
    assert (targets >= SPECIAL).all()
    assert len({*places.tolist()}) == len(places)
    untouched = np.delete(np.arange(rows.size), places)
    assert (ids.ravel()[untouched] == rows.ravel()[untouched]).all()
    ids.ravel()[places] = targets
    assert (ids == rows).all()
    candidates = ORDINARY[rows].sum(1)
    expected = [min(had, max(1, round(fraction * had))) for had in candidates.tolist()]
    assert np.bincount(places // width, minlength=count).tolist() == expected


def test_a_row_is_hidden_alike_wherever_it_stands() -> None:
    rows, masking = windows(6, 50), Masking(MASK, ORDINARY)
    together = masking.hide(rows, 1, "test", range(10, 16))
    for row in range(6):
        alone = masking.hide(rows[row : row + 1], 1, "test", [10 + row])
        assert (alone.ids[0] == together.ids[row]).all()
    others = [masking.hide(rows, *key) for key in ((2, "test", range(10, 16)), (1, "else", range(10, 16)))]
    others.append(masking.hide(rows, 1, "test", range(11, 17)))
    assert all((other.ids != together.ids).any() for other in others)


def test_bert_shows_the_mask_in_four_of_five_places_and_another_token_in_one_of_ten() -> None:
    rows = np.random.default_rng(0).integers(SPECIAL, VOCABULARY, (400, 200))
    ids, places, targets = (t.numpy() for t in Masking(MASK, ORDINARY, 0.5, "bert").hide(rows, 0, "test", range(400)))
    shown = ids.ravel()[places]
    masked, kept = (shown == MASK).mean(), (shown == targets).mean()
    another = shown[(shown != MASK) & (shown != targets)]
    assert masked == pytest.approx(0.8, abs=0.01)
    assert kept == pytest.approx(0.1 + 0.1 / (VOCABULARY - SPECIAL), abs=0.01)
    counts = np.bincount(another, minlength=VOCABULARY)
    assert counts[:SPECIAL].sum() == 0
    assert counts[SPECIAL:].min() > 0.6 * counts[SPECIAL:].mean()
    every = Masking(MASK, ORDINARY, 0.5, "mask").hide(rows, 0, "test", range(400))
    assert (every.ids.ravel()[every.places] == MASK).all()
    assert (every.places.numpy() == places).all()  # the same tokens, whatever stands in their place


def test_every_place_is_hidden_about_as_often() -> None:
    rows = np.full((3000, 20), SPECIAL)
    places = Masking(MASK, ORDINARY, 0.25).hide(rows, 0, "test", range(3000)).places.numpy()
    counts = np.bincount(places % 20, minlength=20)
    assert counts.sum() == 3000 * 5
    assert np.abs(counts - 750).max() < 6 * np.sqrt(750 * 0.75)


def test_the_special_tokens_of_a_tokenizer_are_never_hidden_and_the_mask_may_be_a_new_one() -> None:
    learned, byte = learn_bpe(["a house by the sea"] * 9, 300), ByteTokenizer()
    assert masked_ids(learned) == (0, 1, 2, 3, learned.vocab_size)
    assert masked_ids(byte) == (256, 257, 258, 259, 260)
    for tokenizer, special in ((learned, 4), (byte, 4)):
        ordinary = build_masking(tokenizer, 0.15, "mask").ordinary
        assert len(ordinary) - ordinary.sum() == special
        assert not ordinary[[*masked_ids(tokenizer)[:4]]].any()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_a_fraction_is_between_none_and_all(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"fraction = {fraction} must be"):
        Masking(MASK, ORDINARY, fraction)
