"""The tasks of the panel, by the names in their configurations."""

from text.tasks.chatting.instructions import Instructions
from text.tasks.chatting.preferences import Preference
from text.tasks.denoising import Denoising
from text.tasks.embedding import Embedding
from text.tasks.labelling.classification import Classification
from text.tasks.labelling.tagging import Tagging
from text.tasks.language_modelling import LanguageModelling
from text.tasks.masked import MaskedLanguageModelling
from text.tasks.task import TextTask
from text.tasks.translation import Translation

TASKS: dict[str, type[TextTask]] = {
    "language-modelling": LanguageModelling,
    "translation": Translation,
    "masked-language-modelling": MaskedLanguageModelling,
    "denoising": Denoising,
    "classification": Classification,
    "tagging": Tagging,
    "embedding": Embedding,
    "instructions": Instructions,
    "preferences": Preference,
}
