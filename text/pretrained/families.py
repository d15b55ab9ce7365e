"""The public families of decoders that are read and written."""

from __future__ import annotations

from core.messages import nearest
from text.pretrained.family import Family
from text.pretrained.gpt2 import GPT2
from text.pretrained.llama import Llama, Mistral, Qwen2, Qwen3

FAMILIES: dict[str, type[Family]] = {family.model_type: family for family in (GPT2, Llama, Mistral, Qwen2, Qwen3)}
"""By the `model_type` of their `config.json`."""


def find_family(model_type: object) -> type[Family]:
    """The family of that name. Raises ValueError for an unknown one."""
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ValueError(f"model_type = {model_type!r} is not a supported family; {nearest(str(model_type), FAMILIES)}")
    return FAMILIES[model_type]
