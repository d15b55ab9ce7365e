"""What a model that draws is told of each label: the class, or the numbers of a caption's words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from vision.captions.words import Words

Told = Literal["class", "caption"]
"""What is told of an image."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """A row for each label, and a last one, at -1, that stands for nothing in particular.

    table: int64 (K + 1,), or (K + 1, L) where labels have captions
    words: that captions are made of; None where classes are told
    """

    table: Tensor
    words: Words | None = None

    @classmethod
    def of_classes(cls, count: int) -> Self:
        """Classes are told as they are numbered; class K is none."""
        return cls(torch.arange(count + 1))

    @classmethod
    def of_captions(cls, captions: Sequence[str], words: Words, length: int) -> Self:
        """Captions are told as words; that without any is none. Raises ValueError as `Words.encode` does."""
        nothing = torch.zeros(1, length, dtype=torch.int64)
        return cls(torch.cat([words.encode(captions, length), nothing]), words)

    @classmethod
    def load(cls, folder: Path, told: Told, classes: Sequence[str], length: int) -> Self:
        """Those of a run folder. Raises ValueError naming a file that is missing or damaged."""
        if told == "class":
            return cls.of_classes(len(classes))
        return cls.of_captions(classes, Words.load(folder), length)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return replace(self, table=self.table.to(device))

    def save(self, folder: Path) -> None:
        """Keeps in a run folder what `load` needs."""
        if self.words is not None:
            self.words.save(folder)

    @property
    def nothing(self) -> Tensor:
        """What stands for nothing in particular: int64 () or (L,)."""
        return self.table[-1]

    @property
    def length(self) -> int:
        """Numbers that are told of an image."""
        return 1 if self.table.dim() == 1 else self.table.shape[1]

    @property
    def size(self) -> int:
        """Different numbers that may be told."""
        return max(int(self.table.max()), len(self.words or ())) + 1

    def of(self, labels: Tensor | Sequence[int]) -> Tensor:
        """What is told of these labels, -1 being none, int64 (N,): int64 (N,) or (N, L), on their device."""
        labels = torch.as_tensor(labels)
        return self.table.to(labels.device)[labels]

    def read(self, captions: Sequence[str]) -> Tensor:
        """What is told by captions of one's own: int64 (N, L). Raises ValueError where classes are told."""
        if self.words is None:
            raise ValueError("prompt is for models of captions: this one draws classes, --class NAME")
        return self.words.encode(captions, self.length)
