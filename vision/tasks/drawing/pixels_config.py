"""The configuration of runs that learn to draw images token by token."""

from dataclasses import dataclass, field, replace

from core.checks import check_at_least, check_between, check_positive
from core.decoding.filters import Sampling
from vision.captions.held_out import Labelling
from vision.captions.prompts import Told
from vision.config import VisionConfig
from vision.generation.options import DrawingOptions
from vision.models.image_gpt import ImageGPTConfig


@dataclass(frozen=True, kw_only=True)
class PixelsConfig(VisionConfig):
    """Images drawn in reading order, token by token, of the class or the caption that comes first."""

    task = "pixels"
    resumable = (*VisionConfig.resumable, "sample")

    init_from: str = ""
    """Start from the trained weights of another run of this task, a run folder; the model's shape must be the same."""
    told: Told = "class"
    """What is told of an image, before it: its class, or a caption."""
    caption_length: int = 8
    """caption: the most words of one."""
    class_dropout: float = 0.1
    """Probability that a training image's class or caption is not told, so that images can be completed without."""
    sample: int = 40
    """Images drawn at every evaluation, into samples/; 0 draws none."""
    sampling: Sampling = field(default_factory=Sampling)
    """How tokens are chosen then, and by `vision.generate` and `vision.evaluate` unless told otherwise."""
    model: ImageGPTConfig = field(default_factory=ImageGPTConfig)
    """The model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between(self, 0.0, 1.0, "class_dropout")
        check_positive(self, "caption_length")
        check_at_least(self, 0, "sample")

    @property
    def labelling(self) -> Labelling:
        return "captions" if self.told == "caption" else "classes"

    def how(self, options: DrawingOptions) -> Sampling:
        """How images of the run are drawn: as it says itself, but for what is given."""
        return replace(self.sampling, **options.given(self.task, "temperature", "top_k", "top_p"))

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        idle = {"caption_length": "told = 'class' has no captions"} if self.told == "class" else {}
        return super().unused() | idle
