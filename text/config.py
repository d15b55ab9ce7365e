"""The configurations of text runs, by the names of their tasks, and the settings of an evaluation."""

from dataclasses import dataclass, field
from typing import Literal, get_args, get_type_hints

from core.checks import check_positive
from core.cli.arguments import TEXT
from core.training.trained import EvaluateOptions
from text.settings.base import TextConfig
from text.settings.labels import ClassificationConfig, LabelsConfig, TaggingConfig
from text.settings.pairs import EmbeddingConfig, PairsConfig, TranslationConfig
from text.settings.texts import CorpusConfig, DenoisingConfig, LanguageModellingConfig, MaskedConfig

__all__ = [
    "CONFIGS",
    "ClassificationConfig",
    "CorpusConfig",
    "DenoisingConfig",
    "EmbeddingConfig",
    "EvaluateConfig",
    "LabelsConfig",
    "LanguageModellingConfig",
    "MaskedConfig",
    "PairsConfig",
    "TaggingConfig",
    "TextConfig",
    "TranslationConfig",
    "task_config",
]

KINDS: tuple[type[TextConfig], ...] = (
    *(LanguageModellingConfig, TranslationConfig, MaskedConfig, DenoisingConfig),
    *(ClassificationConfig, TaggingConfig, EmbeddingConfig),
)
CONFIGS = {config.task: config for config in KINDS}
"""By the names of the tasks; a run folder that names none is of the first."""


def task_config(model: object) -> type[TextConfig]:
    """The class of the configurations of the first task whose models have a shape of this class."""
    shapes = {kind: get_type_hints(kind)["model"] for kind in CONFIGS.values()}
    return next(kind for kind, shape in shapes.items() if type(model) in (get_args(shape) or (shape,)))


@dataclass(frozen=True)
class EvaluateConfig(EvaluateOptions):
    """Settings of `text.evaluate`."""

    data: str | tuple[str, ...] = ""
    """Another text, named as for training; by default a run's own. A public model needs one."""
    part: Literal["auto", "held-out", "whole"] = "auto"
    """Of another text: all of it, or the last part only, as large as in training; auto is all for a public model."""
    column: str = ""
    """Column of tables that holds the text; default text, or the only one that holds any."""
    separator: str = field(default="", metadata={TEXT: True})
    """A text that stands between two documents of a file of another text."""
    skip_bad: bool = False
    """Leave out what cannot be read of another text rather than refuse it."""
    context: int | None = None
    """Tokens of a window; default the model's context, or less where the logits of a window would take over 1 GiB."""
    batch_size: int | None = None
    """Sequences evaluated at once; default 64, or fewer where their logits would take over 1 GiB."""
    beams: int = 1
    """Of translations; 1 takes the most probable token."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic; auto chooses as training does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "batch_size", "context", "beams")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        names = () if self.data else ("part", "column", "separator", "skip_bad")
        return dict.fromkeys(names, "a run's own text is evaluated as it was held out; --data names another")
