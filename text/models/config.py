"""The shapes of text models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from core.checks import check_choices, check_positive
from core.config import TransformerConfig


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT."""

    vocab_size: int = 0
    """Number of tokens; 0 = what the tokenizer has."""
    context: int = 256
    """The most tokens it attends to."""
    head: Literal["tied", "untied"] = "tied"
    """Whether the output map is the embedding's own matrix."""
    core: TransformerConfig = field(default_factory=TransformerConfig)
    """The shape of the blocks."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "context")
        if self.vocab_size < 0:
            raise ValueError(f"vocab_size = {self.vocab_size} must be at least 0")
