"""The configurations of all tasks."""

from typing import get_args, get_type_hints

from text.config import DenoisingConfig, LanguageModellingConfig, MaskedConfig, TextConfig, TranslationConfig
from text.tasks.chatting.config import InstructionsConfig, PreferencesConfig
from text.tasks.embedding_config import EmbeddingConfig
from text.tasks.labelling.configs import ClassificationConfig, TaggingConfig

ALL = (
    *(LanguageModellingConfig, TranslationConfig, MaskedConfig, DenoisingConfig),
    *(ClassificationConfig, TaggingConfig, EmbeddingConfig, InstructionsConfig, PreferencesConfig),
)
CONFIGS: dict[str, type[TextConfig]] = {config.task: config for config in ALL}
"""By the names of the tasks; a run folder that names none is of the first."""


def task_config(model: object) -> type[TextConfig]:
    """The class of the configurations of the first task whose models have a shape of this class."""
    shapes = {kind: get_type_hints(kind)["model"] for kind in CONFIGS.values()}
    return next(kind for kind, shape in shapes.items() if type(model) in (get_args(shape) or (shape,)))
