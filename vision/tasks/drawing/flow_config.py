"""The configuration of runs that learn to draw images."""

from dataclasses import dataclass, field, replace
from typing import Literal

from core.checks import check_at_least, check_between, check_positive
from vision.captions.held_out import Labelling
from vision.config import VisionConfig
from vision.generation.options import DrawingOptions
from vision.generation.samplers import Drawing
from vision.models.dit import DiTConfig


@dataclass(frozen=True, kw_only=True)
class FlowConfig(VisionConfig):
    """Images drawn from noise, each of the class or the caption that is asked for, by flow matching."""

    task = "flow"
    resumable = (*VisionConfig.resumable, "sample")

    init_from: str = ""
    """Start from the trained weights of another run of this task, a run folder; the model's shape must be the same."""
    flip: Literal["none", "random"] = "none"
    """Whether half of the training images are mirrored."""
    class_dropout: float = 0.1
    """Probability that a training image's class or caption is not told, without which there is no guidance later."""
    times: Literal["logit-normal", "uniform"] = "logit-normal"
    """How the times between noise (0) and image (1) are drawn at which velocities are learned."""
    times_mean: float = 0.0
    """logit-normal: the mean of the logit; below 0 nearer to the noise."""
    times_std: float = 1.0
    """logit-normal: its standard deviation."""
    sample: int = 40
    """Images drawn at every evaluation, into samples/; 0 draws none."""
    drawing: Drawing = field(default_factory=lambda: Drawing(steps=25, sampler="euler", guidance=1.0))
    """How they are drawn, and what `vision.generate` and `vision.evaluate` do unless told otherwise."""
    model: DiTConfig = field(default_factory=DiTConfig)
    """The model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between(self, 0.0, 1.0, "class_dropout")
        check_positive(self, "times_std")
        check_at_least(self, 0, "sample")
        check_guidance(self.drawing.guidance, self.class_dropout)

    @property
    def labelling(self) -> Labelling:
        return "captions" if self.model.told == "caption" else "classes"

    def how(self, options: DrawingOptions) -> Drawing:
        """How images of the run are drawn: as it says itself, but for what is given."""
        given = options.given(self.task, "steps", "sampler", "guidance")
        drawing = replace(self.drawing, **given)
        check_guidance(drawing.guidance, self.class_dropout)
        return drawing

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        names = ("times_mean", "times_std") if self.times == "uniform" else ()
        return super().unused() | dict.fromkeys(names, "times = 'uniform' has neither")


def check_guidance(guidance: float, class_dropout: float) -> None:
    """Raises ValueError for guidance by a model that has always been told the class."""
    if guidance != 1 and not class_dropout:
        raise ValueError(
            f"guidance = {guidance:g} must be 1: with class_dropout = 0 a model never learns to draw without a class"
        )
