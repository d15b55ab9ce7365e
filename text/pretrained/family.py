"""What a public family is: the fields of its `config.json` that matter, and a table of its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import Any, ClassVar, Literal

from core.config import TransformerConfig
from core.files.serialize import from_dict, to_dict
from core.files.weights import WEIGHT, Rule, module
from text.models.gpt import GPTConfig

Holds = Mapping[str, tuple[object, ...]]

WITHOUT_EFFECT = (
    *("architectures", "model_type", "transformers_version", "_name_or_path", "dtype", "torch_dtype"),
    *("use_cache", "return_dict*", "output_*", "_attn_implementation*", "attn_implementation", "is_decoder"),
    *(
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "unk_token_id",
        "sep_token_id",
        "decoder_start_token_id",
    ),
    *("initializer_range", "id2label", "label2id", "num_labels", "_num_labels", "problem_type"),
    *("task_specific_params", "finetuning_task", "tokenizer_class", "prefix", "transformers.js_config", "unsloth_*"),
    *("chunk_size_feed_forward", "gradient_checkpointing", "torchscript", "use_bfloat16", "tf_legacy_loss"),
    *(
        "max_length",
        "min_length",
        "do_sample",
        "early_stopping",
        "num_beams",
        "num_beam_groups",
        "temperature",
    ),
    *("top_k", "top_p", "typical_p", "diversity_penalty", "repetition_penalty", "length_penalty"),
    *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences"),
    *("forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "suppress_tokens"),
    *("begin_suppress_tokens", "exponential_decay_length_penalty"),
)
"""Fields that leave the logits of any family alone: bookkeeping, training, decoding (`*` is anything)."""


@dataclass(frozen=True)
class Family(ABC):
    """The fields of a `config.json` that matter, under their names there, and what follows from them.

    A field that would change the mathematics admits only the value that does not. Any field that is neither
    here nor among those without effect is refused.
    """

    model_type: ClassVar[str]
    architecture: ClassVar[str]
    """Name of the class with a head that other tools build."""
    prefix: ClassVar[str]
    """How the names of all weights but the head's begin, where they were saved with a head."""
    embedding: ClassVar[str]
    """The weight that a tied head repeats."""
    buffers: ClassVar[tuple[str, ...]]
    """Patterns of weights that say nothing: masks and frequencies."""
    without_effect: ClassVar[tuple[str, ...]]
    """Patterns of further fields that leave the logits alone."""
    holds: ClassVar[Holds]
    """What the family can express: the values it has words for, by field of our configuration."""

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Family:
        """From a `config.json`. Raises ValueError naming the first field that is unknown or not handled."""
        silent = WITHOUT_EFFECT + cls.without_effect
        return from_dict(
            cls, {k: v for k, v in fields.items() if not any(fnmatchcase(k, pattern) for pattern in silent)}
        )

    def write(self) -> dict[str, Any]:
        """As a `config.json` that other tools build the model from."""
        names = {"model_type": self.model_type, "architectures": [self.architecture], "dtype": "float32"}
        return names | to_dict(self)

    @abstractmethod
    def config(self) -> GPTConfig:
        """The same model in our words."""

    @classmethod
    @abstractmethod
    def of(cls, config: GPTConfig) -> Family:
        """Our model in their words. Raises ValueError naming a field for which they have none."""

    @classmethod
    @abstractmethod
    def rules(cls, config: GPTConfig) -> list[Rule]:
        """Which of their weights is which of ours, in the layout with a head."""

    @classmethod
    def require(cls, config: GPTConfig) -> TransformerConfig:
        """Our core, if the family can express it; ValueError naming the first field of which it cannot."""
        for name, accepted in cls.holds.items():
            cls.check(name, attrgetter(name)(config), accepted)
        return config.core

    @classmethod
    def check(cls, name: str, value: object, accepted: Sequence[object]) -> None:
        """Raise ValueError unless the family can express this value of our field."""
        if value not in accepted:
            raise ValueError(
                f"{name} = {value!r} has no place in the {cls.model_type} layout, "
                f"which holds: {', '.join(map(str, accepted))}"
            )


def head_kind(tied: bool) -> Literal["tied", "untied"]:
    """Their flag in our word."""
    return "tied" if tied else "untied"


def head_rules(config: GPTConfig) -> list[Rule]:
    """A tied head has no weight of its own."""
    return [] if config.head == "tied" else module("head", "lm_head", kinds=WEIGHT)
