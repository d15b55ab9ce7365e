"""The tasks of the panel, by the names in their configurations."""

from text.tasks.language_modelling import LanguageModelling
from text.tasks.task import TextTask

TASKS: dict[str, type[TextTask]] = {"language-modelling": LanguageModelling}
