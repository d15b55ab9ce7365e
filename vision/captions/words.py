"""The words of captions and their numbers, which are what a model reads."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from core.files.json_files import read_json, write_json
from core.messages import nearest

FILE = "words.json"
NO_WORD = 0
"""The number that fills a caption up to the length of others."""


class Words:
    """A vocabulary of words, numbered from 1; captions are read without regard to capitals."""

    def __init__(self, words: Sequence[str]):
        self.words = tuple(words)
        self._numbers = {word: number for number, word in enumerate(self.words, NO_WORD + 1)}

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def learn(cls, captions: Iterable[str]) -> Self:
        """All words of some captions, sorted."""
        return cls(sorted({word for caption in captions for word in words_of(caption)}))

    def encode(self, captions: Sequence[str], length: int) -> Tensor:
        """The numbers of each caption's words, filled with NO_WORD: int64 (N, length).

        Raises ValueError for a caption without words, with more than `length`, or with one that is not known.
        """
        numbers = torch.full((len(captions), length), NO_WORD)
        for row, caption in enumerate(captions):
            words = words_of(caption)
            if not 0 < len(words) <= length:
                raise ValueError(f"caption {caption!r} has {len(words)} words: 1 to {length} can be read")
            numbers[row, : len(words)] = torch.tensor([self._number(word, caption) for word in words])
        return numbers

    def save(self, folder: Path) -> None:
        """Writes `words.json`."""
        write_json(folder / FILE, {"words": list(self.words)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads it. Raises ValueError naming the file if it is damaged."""
        words = read_json(folder / FILE).get("words")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{folder / FILE} holds no list of words")
        return cls(words)

    def _number(self, word: str, caption: str) -> int:
        if word not in self._numbers:
            known = nearest(word, self.words, f"the {len(self):,} that are known are in {FILE} of the run folder")
            raise ValueError(f"caption {caption!r} has the word {word!r}, which no training caption has; {known}")
        return self._numbers[word]


def words_of(caption: str) -> list[str]:
    """The words of a caption, in order."""
    return caption.lower().split()
