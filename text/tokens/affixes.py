"""Words as their parts: each word is a handful of tokens that overlap, its form, its beginnings, its ends, its shape.

What a word is can then be told although it was never seen: *-ness* is a noun's end, *Xx* a name's shape (Brants 2000,
2.3; Honnibal & Montani 2017 embed such parts by hashes; here they are a vocabulary).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from text.tokens.base import Ids, Tokenizer

UNKNOWN = "?"
BEGINNINGS, ENDS = (1, 2, 3), (1, 2, 3, 4)  # letters
WORD = re.compile(r"\w(?:[\w'-]*\w)?|'\w+|\S")


class AffixTokenizer(Tokenizer):
    """The parts of each word of a text, words being apart by white space; parts that are not in the vocabulary are left
    out, and a word whose form is not has the part `?`.

    parts: `=Form`, `~form` in lower case, `<be` and `end>` of that, `#Xx-0` the shape; id 0 is `?`.
    """

    kind = "affixes"

    def __init__(self, parts: Sequence[str]) -> None:
        self.parts = list(parts)
        if self.parts[:1] != [UNKNOWN] or len(set(self.parts)) < len(self.parts):
            raise ValueError(f"parts must begin with {UNKNOWN!r} and differ")
        self._ids = {part: number for number, part in enumerate(self.parts)}

    @classmethod
    def learn(cls, words: Iterable[str], least: int = 2) -> AffixTokenizer:
        """The parts that occur at least so often among words, the most frequent first."""
        counts: Counter[str] = Counter()
        for word, times in Counter(words).items():
            counts.update(dict.fromkeys(parts_of(word), times))
        frequent = sorted((-times, part) for part, times in counts.items() if times >= least)
        return cls([UNKNOWN, *(part for _, part in frequent)])

    @cached_property
    def pieces(self) -> list[bytes]:
        return [part.encode() for part in self.parts]

    def encode(self, text: str) -> Ids:
        """Token ids, those of each word together: int64 (T,)."""
        return np.array([part for word in text.split() for part in self._word(word)], np.int64)

    def _word(self, word: str) -> list[int]:
        parts = parts_of(word)
        form = self._ids.get(parts[0], 0)
        return [form, *(self._ids[part] for part in parts[1:] if part in self._ids)]

    def to_json(self) -> str:
        return json.dumps({"tokenizer": self.kind, "parts": self.parts})


def words_of(text: str) -> list[str]:
    """The words of a running text, marks apart from them: do, n't, well-made, 's."""
    return WORD.findall(text)


def parts_of(word: str) -> list[str]:
    """The parts of a word, its form first, each once."""
    lower = word.lower()
    parts = [f"={word}", f"~{lower}", f"#{shape_of(word)}"]
    parts += [f"<{lower[:letters]}" for letters in BEGINNINGS] + [f"{lower[-letters:]}>" for letters in ENDS]
    return list(dict.fromkeys(parts))


def shape_of(word: str) -> str:
    """Small letters as x, capital ones as X, digits as 0, each once in a row, and what else there is as it stands."""
    kinds = "".join("0" if c.isdigit() else "X" if c.isupper() else "x" if c.isalpha() else c for c in word)
    return re.sub(r"(.)\1+", r"\1", kinds)
