"""What the families of causal language models share: the model they describe, and its head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from core.files.weights import WEIGHT, Rule, module
from text.models.gpt import GPT, GPTConfig
from text.pretrained.family import Family


class Causal(Family[GPT, GPTConfig]):
    """A family of causal language models, whose head is `lm_head`."""

    models: ClassVar[Mapping[type, type[nn.Module]]] = {GPTConfig: GPT}
    embedding: ClassVar[str]
    """The weight that a tied head repeats."""

    @classmethod
    def repeated(cls, config: GPTConfig) -> dict[str, str]:
        return {"lm_head.weight": cls.embedding} if config.head == "tied" else {}


def head_rules(config: GPTConfig) -> list[Rule]:
    """The rule of the head; a tied one has no weight of its own."""
    return [] if config.head == "tied" else module("head", "lm_head", kinds=WEIGHT)
