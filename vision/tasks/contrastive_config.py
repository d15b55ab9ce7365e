"""The configuration of runs that learn which caption an image has."""

from dataclasses import dataclass, field

from core.checks import check_at_least, check_positive
from vision.captions.held_out import Labelling
from vision.config import VisionConfig
from vision.models.contrastive import ContrastiveConfig


@dataclass(frozen=True, kw_only=True)
class ContrastiveRunConfig(VisionConfig):
    """Images and captions, each to be nearer to its partner than to those of others."""

    task = "contrastive"

    init_from: str = ""
    """Start from the trained weights of another run of this task, a run folder; the model's shape must be the same."""
    batch_size: int = 128
    """Images per optimiser step, over all processes and micro-batches."""
    group: int = 128
    """Images that are compared with one another: the captions of the others in its group are wrong for each. A
    micro-batch holds one group or several."""
    temperature: float = 0.07
    """What cosines are divided by before the softmax over a group."""
    shift: int = 1
    """By how many pixels training images are moved at most, along each side."""
    model: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    """The model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "group", "temperature")
        check_at_least(self, 0, "shift")
        if (images := self.batch_size // self.accumulate) % self.group:
            raise ValueError(f"group = {self.group} must divide the {images} images of a micro-batch")

    @property
    def labelling(self) -> Labelling:
        return "captions"
