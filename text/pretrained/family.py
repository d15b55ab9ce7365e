"""What a public family is: the fields of its `config.json` that matter, and a table of its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import Any, ClassVar

from core.config import TransformerConfig
from core.files.serialize import from_dict, to_dict
from core.files.weights import WEIGHT, Rule, module
from text.models.gpt import GPTConfig

Supported = Mapping[str, tuple[object, ...]]

WITHOUT_EFFECT = tuple(
    """
    architectures model_type transformers_version _name_or_path dtype torch_dtype
    use_cache return_dict* output_* _attn_implementation* attn_implementation is_decoder
    bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id decoder_start_token_id
    initializer_range id2label label2id num_labels _num_labels problem_type
    task_specific_params finetuning_task tokenizer_class prefix transformers.js_config unsloth_*
    chunk_size_feed_forward gradient_checkpointing torchscript use_bfloat16 tf_legacy_loss
    max_length min_length do_sample early_stopping num_beams num_beam_groups temperature
    top_k top_p typical_p diversity_penalty repetition_penalty length_penalty
    no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences
    forced_bos_token_id forced_eos_token_id remove_invalid_values suppress_tokens
    begin_suppress_tokens exponential_decay_length_penalty
    """.split()
)
"""Fields that do not change the logits of any family: bookkeeping, training, decoding (`*` matches anything)."""


TIED = {True: "tied", False: "untied"}


def equals(place: str, default: Any = MISSING, names: Mapping[Any, Any] | None = None, saved: str = "") -> Any:
    """A field that one of our configuration's equals, at `place`.

    names: of their values, ours; several of theirs may be one of ours, which is saved as the first
    saved: where else it is read from for an export
    """
    return field(default=default, metadata={"place": place, "names": names, "saved": saved or place})


@dataclass(frozen=True)
class Family(ABC):
    """The fields of a `config.json` that matter, under their names there.

    A field that would change the mathematics accepts only the value that does not. Any field that is neither listed by
    the class nor among those without effect is refused.
    """

    model_type: ClassVar[str]
    architecture: ClassVar[str]
    """The class, head included, that transformers builds."""
    prefix: ClassVar[str]
    """What the names of all weights but the head's begin with, where they were saved with a head."""
    embedding: ClassVar[str]
    """The weight that a tied head repeats."""
    buffers: ClassVar[tuple[str, ...]]
    """Patterns of stored tensors that are not weights: masks and frequencies."""
    without_effect: ClassVar[tuple[str, ...]]
    """Patterns of further fields that do not change the logits."""
    supported: ClassVar[Supported]
    """What the family can express: the accepted values, by field of our configuration; the first, where none of their
    fields equals it."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Family:
        """From the fields of a `config.json`. Raises ValueError naming the first that is unknown or not supported."""
        ignored = WITHOUT_EFFECT + cls.without_effect
        return from_dict(
            cls, {name: value for name, value in fields.items() if not any(fnmatchcase(name, p) for p in ignored)}
        )

    def to_fields(self) -> dict[str, Any]:
        """The fields of a `config.json` that other tools build the model from."""
        names = {"model_type": self.model_type, "architectures": [self.architecture], "dtype": "float32"}
        return names | to_dict(self)

    def to_config(self) -> GPTConfig:
        """The same model as a configuration of ours."""
        nested: dict[str, Any] = {"core": {"position": {}}}
        for place, value in self.our_values().items():
            *outer, name = place.split(".")
            level = nested
            for key in outer:
                level = level[key]
            level[name] = value
        return from_dict(GPTConfig, nested)

    def our_values(self) -> dict[str, Any]:
        """What it sets in our configuration, by dotted names."""
        values = {place: accepted[0] for place, accepted in self.supported.items()}
        for f in fields(self):
            if f.metadata:
                value, names = getattr(self, f.name), f.metadata["names"]
                values[f.metadata["place"]] = names[value] if names else value
        return values

    @classmethod
    def from_config(cls, config: GPTConfig) -> Family:
        """The fields for a model of ours. Raises ValueError naming a setting that the family cannot express."""
        for place, accepted in cls.supported.items():
            cls.require(place, attrgetter(place)(config), accepted)
        values = {}
        for f in fields(cls):
            if f.metadata:
                value, names = attrgetter(f.metadata["saved"])(config), f.metadata["names"]
                values[f.name] = next(name for name, own in names.items() if own == value) if names else value
        return cls(**values | cls.own_fields(config.core))

    @classmethod
    def own_fields(cls, core: TransformerConfig) -> dict[str, Any]:
        """The values of fields that equal none of ours."""
        return {}

    @classmethod
    def require(cls, place: str, value: object, accepted: Sequence[object]) -> None:
        """Raises ValueError unless a setting of ours has one of the accepted values."""
        if value not in accepted:
            raise ValueError(
                f"{place} = {value!r} cannot be expressed in the {cls.model_type} layout, "
                f"which supports: {', '.join(map(str, accepted))}"
            )

    @classmethod
    @abstractmethod
    def rules(cls, config: GPTConfig) -> list[Rule]:
        """Which of their weights are which of ours, in the layout with a head."""


def head_rules(config: GPTConfig) -> list[Rule]:
    """The rule of the head; a tied one has no weight of its own."""
    return [] if config.head == "tied" else module("head", "lm_head", kinds=WEIGHT)
