"""The configuration of runs that learn a vector for each text."""

from dataclasses import dataclass, field

from core.checks import check_positive
from text.config import PairsConfig
from text.models.encoder import EmbedderConfig


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig(PairsConfig):
    """A vector for each text, near to that of the text that it is paired with; batches count pairs."""

    task = "embedding"

    batch_size: int = 64
    """Pairs per optimiser step, over all processes and micro-batches."""
    group: int = 64
    """Pairs that are compared with one another: for each text the partners of the others in its group are wrong
    answers. A micro-batch holds one group or several."""
    temperature: float = 0.05
    """What cosines are divided by before the softmax over a group."""
    model: EmbedderConfig = field(default_factory=EmbedderConfig)
    """The model; with init_from its encoder comes with the weights, but for dropout and a shorter context."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "group", "temperature")
        if (pairs := self.batch_size // self.accumulate) % self.group:
            raise ValueError(f"group = {self.group} must divide the {pairs} pairs of a micro-batch")
