"""The tasks of the panel, by the names in their configurations."""

from text.tasks.denoising import Denoising
from text.tasks.language_modelling import LanguageModelling
from text.tasks.masked import MaskedLanguageModelling
from text.tasks.task import TextTask
from text.tasks.translation import Translation

TASKS: dict[str, type[TextTask]] = {
    "language-modelling": LanguageModelling,
    "translation": Translation,
    "denoising": Denoising,
    "masked-language-modelling": MaskedLanguageModelling,
}
