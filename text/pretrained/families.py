"""Public families of decoders: their configuration in our words and back, their weights as ours and back."""

from __future__ import annotations

from text.pretrained.family import Family
from text.pretrained.gpt2 import GPT2
from text.pretrained.llama import Llama, Mistral, Qwen2, Qwen3

FAMILIES: dict[str, type[Family]] = {family.model_type: family for family in (GPT2, Llama, Mistral, Qwen2, Qwen3)}
"""By the `model_type` of their `config.json`."""
