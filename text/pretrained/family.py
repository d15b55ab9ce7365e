"""What a public family is: the fields of its `config.json` that matter, and a table of its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from operator import attrgetter
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, get_args

import torch
from torch import Tensor, nn

from core.files.serialize import from_dict, to_dict
from core.files.tensors import Uninitialised
from core.files.weights import Rule
from text.pretrained.paperwork import relevant_fields

Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config")
Supported = Mapping[str, tuple[object, ...]]

TIED = {True: "tied", False: "untied"}
Tanh = Literal["gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"]
Activation = Tanh | Literal["gelu", "gelu_python", "relu"]
Plain = Literal["gelu", "gelu-tanh", "relu"]
ACTIVATIONS: dict[str, Plain] = dict.fromkeys(get_args(Tanh), "gelu-tanh")
ACTIVATIONS |= {"gelu": "gelu", "gelu_python": "gelu", "relu": "relu"}
"""Of their names of activations, ours."""


def equals(place: str, default: Any = MISSING, names: Mapping[Any, Any] | None = None, saved: str = "") -> Any:
    """A field that one of our configuration's equals, at `place`.

    names: of their values, ours; several of theirs may be one of ours, which is saved as the first
    saved: where else it is read from for an export
    """
    return field(default=default, metadata={"place": place, "names": names, "saved": saved or place})


@dataclass(frozen=True)
class Family(ABC, Generic[Model, Config]):
    """The fields of a `config.json` that matter, under their names there.

    What a field's annotation does not allow, and what would change the mathematics (`text.pretrained.paperwork`), is
    refused by name.
    """

    model_type: ClassVar[str]
    architecture: ClassVar[str]
    """The class that transformers builds, head included."""
    models: ClassVar[Mapping[type, type[nn.Module]]]
    """The classes of model that it describes, by that of their configuration."""
    prefix: ClassVar[str]
    """What the names of all weights but the head's begin with, where they were saved with a head."""
    buffers: ClassVar[tuple[str, ...]]
    """Patterns of stored tensors that are not weights: masks and frequencies."""
    supported: ClassVar[Supported]
    """What the family can express: the accepted values, by field of our configuration; the first, where none of their
    fields equals it."""
    spare: ClassVar[tuple[str, ...]] = ()
    """Patterns of fields that say nothing about the numbers of this family."""
    training: ClassVar[tuple[str, ...]] = ("core.init", "core.drop_path", "core.dropout", "core.attention_dropout")
    """Of our settings, those that change no logits."""
    resolved: ClassVar[tuple[str, ...]] = ("core.n_kv_heads", "core.head_dim", "core.ffn_dim", "context")
    """Of our settings, those that mean the same in several ways: None and written out, as a number or as a multiple."""

    @classmethod
    def from_fields(cls, given: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """From the fields of a `config.json`; also the names of those that nobody knows.

        Raises ValueError naming the first that is not supported.
        """
        kept, unknown = relevant_fields(given, [f.name for f in fields(cls)], cls.spare)
        return from_dict(cls, kept), unknown

    def to_fields(self) -> dict[str, Any]:
        """The fields of a `config.json` that other tools build the model from."""
        return {"model_type": self.model_type, "architectures": [self.architecture]} | to_dict(self)

    def files(self) -> dict[str, Any]:
        """What stands in further JSON files of the folder, by their names."""
        return {}

    def remarks(self) -> list[str]:
        """What is not as its fields say, without a change of the logits."""
        return []

    def config_class(self) -> type[Config]:
        """The class of configuration of the model that its fields describe."""
        return next(iter(self.models))

    def to_config(self) -> Config:
        """The same model as a configuration of ours."""
        nested: dict[str, Any] = {}
        for place, value in self.our_values().items():
            *outer, name = place.split(".")
            level = nested
            for key in outer:
                level = level.setdefault(key, {})
            level[name] = value
        return from_dict(self.config_class(), nested)

    def our_values(self) -> dict[str, Any]:
        """What it sets in our configuration, by dotted names."""
        values = {place: accepted[0] for place, accepted in self.supported.items()}
        for f in fields(self):
            if f.metadata:
                value, names = getattr(self, f.name), f.metadata["names"]
                values[f.metadata["place"]] = names[value] if names else value
        return values

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The fields for a model of ours. Raises ValueError naming a setting that the family cannot express."""
        for place, accepted in cls.supported.items():
            cls.require(place, attrgetter(place)(config), accepted)
        values = {}
        for f in fields(cls):
            if f.metadata:
                value, names = attrgetter(f.metadata["saved"])(config), f.metadata["names"]
                values[f.name] = next(name for name, own in names.items() if own == value) if names else value
        family = cls(**values | cls.own_fields(config))
        checked = (*cls.supported, *cls.resolved, *cls.training)
        for place, own, theirs in differences(config, family.to_config()):
            if place not in checked:
                cls.require(place, own, [theirs])
        return family

    def with_ids(self, ids: Mapping[str, int | None]) -> Self:
        """The same for a tokenizer with these ids of special tokens, by names such as `pad`."""
        return self

    @classmethod
    def own_fields(cls, config: Config) -> dict[str, Any]:
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
    def build(cls, config: Config) -> Model:
        """A model of that configuration."""
        return cls.models[type(config)](config)  # type: ignore[return-value]

    @classmethod
    def completed(cls, model: Model) -> Model:
        """The same model with all the weights that the layout has."""
        return model

    @abstractmethod
    def rules(self, config: Config) -> list[Rule]:
        """Which of their weights are which of ours, in the layout with a head."""

    def bare(self) -> bool:
        """Whether it is written without a head, and so without the prefix."""
        return False

    def ignored(self, config: Config) -> tuple[str, ...]:
        """Patterns of stored tensors that such a model does not need."""
        return self.buffers

    @classmethod
    def repeated(cls, config: Config) -> dict[str, str]:
        """Weights that may be stored once more, each with the name of the one that it must equal."""
        return {}

    @classmethod
    def implied(cls, config: Config) -> dict[str, str]:
        """Weights that may be left out, each with the name of the one that it then equals."""
        return {}

    def constants(self) -> dict[str, Tensor]:
        """Tensors that an export stores beside the weights, because other tools would make them otherwise."""
        return {}

    def generation(self) -> dict[str, Any]:
        """The fields of a `generation_config.json` that other tools decode the model by."""
        return {}


def without_prefix(rules: Sequence[Rule], prefix: str) -> list[Rule]:
    """The rules of a file that was saved without a head."""
    return [rule.renamed(lambda name: name.removeprefix(prefix)) for rule in rules]


def zero_filled(model: Model, config: Any) -> Model:
    """The same model in a larger configuration: the weights that it does not have are zero."""
    with Uninitialised():
        whole = type(model)(config)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in whole.state_dict().items()}
    whole.load_state_dict(zeros | model.state_dict())
    return whole


def differences(a: Any, b: Any, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    """Where two configurations differ: dotted names, and the value of each."""
    for f in fields(a):
        one, other = getattr(a, f.name), getattr(b, f.name)
        if is_dataclass(one) and is_dataclass(other):
            yield from differences(one, other, f"{prefix}{f.name}.")
        elif one != other:
            yield f"{prefix}{f.name}", one, other
