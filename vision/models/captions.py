"""Captions, read word by word by a small encoder."""

from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from core.config import PositionConfig, TransformerConfig
from core.graph import Graph, padding
from core.init import initialise
from core.positions import index
from core.transformer import Transformer


class Told(NamedTuple):
    """What a model is told of an image: as one vector, and as a sequence that tokens can attend to."""

    condition: Tensor
    """(B, D)."""
    memory: Tensor | None = None
    """(B, L, D)."""
    memory_graph: Graph | None = None
    """Which of the sequence there are: the rest is padding."""


def encoder_core(core: TransformerConfig, depth: int) -> TransformerConfig:
    """The shape of an encoder of captions, as wide as the `core` that it serves."""
    return replace(core, depth=depth, modulation="none", position=PositionConfig("learned"), drop_path=0.0)


class CaptionEncoder(nn.Module):
    """The numbers of words, 0 being none, int64 (B, L), as `Told`: each token, and the mean of those that are there.

    A mark comes before the words; of a caption without any there is nothing else.
    """

    def __init__(self, words: int, length: int, core: TransformerConfig):
        super().__init__()
        self.mark = words + 1
        self.words = nn.Embedding(words + 2, core.dim)
        self.core = Transformer(core, (length + 1,))
        initialise(core, {self.words: "embedding"})

    def forward(self, numbers: Tensor) -> Told:
        marked = F.pad(numbers, (1, 0), value=self.mark)  # (B, L + 1)
        real = marked > 0
        there = padding(real.sum(1))
        x = self.core(self.words(marked), index(marked.shape[1], device=marked.device), there)
        mean = (x * real.unsqueeze(-1)).sum(1) / real.sum(1, keepdim=True)
        return Told(mean.type_as(x), x, there)

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`)."""
        below, *blocks = self.core.layered_modules()
        return [[self.words, *below], *blocks]

    def no_weight_decay(self) -> set[str]:
        """Parameters of two axes that are not matrices."""
        return {f"core.position.{name}" for name, _ in self.core.position.named_parameters()} | {"words.weight"}
