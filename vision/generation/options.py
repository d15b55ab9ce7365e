"""What a command line may say about how images are drawn."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from core.checks import check_choices, check_positive


@dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """Settings of drawing; what is not given is the run's own."""

    steps: int | None = None
    """flow: steps from noise to image; default the run's own drawing.steps."""
    sampler: Literal["own", "euler", "heun"] = "own"
    """flow: euler, or heun, which takes twice as long and is more exact; own is the run's drawing.sampler."""
    guidance: float | None = None
    """flow: how far what is asked for is exaggerated: 1 = not at all, 0 = nothing is asked for; default the run's own
    drawing.guidance."""
    temperature: float | None = None
    """pixels: below 1 sharpens, above 1 flattens, 0 takes the most probable token; default the run's own."""
    top_k: int | None = None
    """pixels: keep the k most probable tokens; default the run's own."""
    top_p: float | None = None
    """pixels: keep the most probable tokens that together reach this probability; default the run's own."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "steps")

    def given(self, task: str, *names: str) -> dict[str, Any]:
        """What is given of these settings. Raises ValueError for any other, which has no effect on such a model."""
        given = {f.name: getattr(self, f.name) for f in fields(DrawingOptions) if getattr(self, f.name) != f.default}
        for name, value in given.items():
            if name not in names:
                raise ValueError(f"{name} = {value!r} has no effect on the task {task!r}")
        return given
