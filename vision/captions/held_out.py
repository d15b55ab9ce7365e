"""Which images with captions are kept from training: new combinations of words that are all known."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from core.training.order import Indices, stream
from vision.captions.words import words_of

Labelling = Literal["classes", "captions"]
"""What the names of classes are: names, or sentences, of which those held out are new combinations of words."""
REMAINING = 2
"""Captions that are trained on and hold a word of one that is not, at least."""


def held_out_captions(captions: Sequence[str], labels: Indices, count: int | None, seed: int) -> Indices:
    """Indices, ascending, of at least `count` images whose captions no other image has, drawn without replacement.

    labels: int64 (N,), the caption of each image among `captions`. Every word of what is held out stays in at least
    REMAINING other captions, and images of the same caption stay together. count None: a tenth, or as many as can be.

    Raises ValueError where there are fewer than `count` such images, or none.
    """
    images = np.bincount(labels, minlength=len(captions))
    present = np.flatnonzero(images).tolist()
    left = Counter(word for label in present for word in set(words_of(captions[label])))
    wanted, chosen, number = len(labels) // 10 if count is None else count, list[int](), 0
    for label in np.random.RandomState(stream(seed, "held out captions")).permutation(present):
        words = set(words_of(captions[label]))
        if number < wanted and all(left[word] > REMAINING for word in words):
            left.subtract(words)
            chosen.append(label)
            number += images[label]
    if number < (least := 1 if count is None else count):
        raise ValueError(
            f"{number} of {len(labels):,} images can be held out, not {least}: every word of their captions must be "
            f"in {REMAINING} captions that are trained on"
        )
    return np.flatnonzero(np.isin(labels, chosen))
