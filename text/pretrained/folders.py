"""Models in and out, as folders in the layout of a public family, with numerically the same outputs.

A pretrained model is a folder in Hugging Face's layout: `config.json`, and `model.safetensors` or its shards.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from core.adapters import peft
from core.adapters.config import AdapterConfig
from core.files.atomic import atomic_write, write_text
from core.files.json_files import read_json, write_json
from core.files.tensors import WEIGHTS, Safetensors, Uninitialised
from core.files.weights import export_weights, import_weights
from core.messages import first_line, notice
from text.pretrained.families import find_family, nearest_family
from text.pretrained.family import Family, Model, without_prefix
from text.pretrained.sentences import MODULES, POOLING, TRANSFORMER, read_sentence_files
from text.tokens.base import FILE, Tokenizer
from text.tokens.library import LibraryTokenizer
from text.tokens.load import public_json
from text.tokens.special import Companions

CONFIG = "config.json"
OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of LayerNorms, in the first public files of BERT

HUB_FILES = [
    CONFIG,
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "generation_config.json",
    peft.CONFIG,
    peft.WEIGHTS,
    "special_tokens_map.json",
    "chat_template.*",
    MODULES,
    POOLING,
    TRANSFORMER,
]
"""What is downloaded: safetensors and plain text, nothing that can execute code."""


@overload
def load_pretrained(name_or_path: str | Path) -> nn.Module: ...
@overload
def load_pretrained(name_or_path: str | Path, kind: type[Model]) -> Model: ...
def load_pretrained(name_or_path: str | Path, kind: type[nn.Module] = nn.Module) -> nn.Module:
    """A public model of one of `families.FAMILIES`, with its weights in float32, in evaluation mode.

    name_or_path: a folder, or the name of a model on the Hugging Face hub, which is downloaded once; in it may be an
                  adapter in peft's layout, which is added to the model that it names.
    kind:         the class of model that is needed, `GPT` for example

    Raises ValueError naming the file that is missing or damaged, the field of `config.json` that would change the
    mathematics, or the weights that are missing, unknown or of another shape; or when the model is of another kind.
    A pickle is never read.
    """
    folder = pretrained_folder(name_or_path)
    family, passed_over = read_fields(folder)
    config = family.to_config()
    check_kind(family.models[type(config)], kind, folder)
    if passed_over:
        notice(f"{folder / CONFIG}: passed over {', '.join(passed_over)}")
    weights: Mapping[str, Tensor] = Unwrapped(Safetensors(base_folder(folder)))
    if peft.is_adapter(folder):
        weights = peft.with_adapter(weights, folder)
    with Uninitialised():
        model = family.build(config)
    fill(model, weights, family, folder)
    return model.eval()


def check_kind(found: type, needed: type, origin: object) -> None:
    """Raises ValueError for a class of model, or of configuration, that is not the one needed."""
    if not issubclass(found, needed):
        raise ValueError(f"{origin} holds {found.__name__}, needed is {needed.__name__}")


def fill(model: nn.Module, weights: Mapping[str, Tensor], family: Family[Any, Any], folder: Path) -> None:
    """Fills a model from the weights of a folder. Raises ValueError naming those that do not fit."""
    rules, repeated = family.rules(model.config), family.repeated(model.config)
    implied = {name: kept for name, kept in family.implied(model.config).items() if name not in weights}
    rules = [rule.renamed(lambda name: implied.get(name, name)) for rule in rules]
    if not any(name.startswith(family.prefix) for name in weights):  # saved without a head
        rules = without_prefix(rules, family.prefix)
        repeated = {name: kept.removeprefix(family.prefix) for name, kept in repeated.items()}
    try:
        import_weights(model, weights, rules, ignored=family.ignored(model.config), repeated=repeated)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


class Unwrapped(Mapping[str, Tensor]):
    """Weights without what torch.compile and data-parallel training put into their names, and under newer names."""

    def __init__(self, weights: Mapping[str, Tensor]):
        self.weights = weights
        self.stored = {self.renamed(name): name for name in weights}

    @staticmethod
    def renamed(name: str) -> str:
        name = re.sub(r"^(module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.", "", name)
        return re.sub(r"(?<=LayerNorm\.)(gamma|beta)$", lambda old: OLD_NAMES[old[0]], name)

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[self.stored[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def pretrained_folder(name_or_path: str | Path) -> Path:
    """A pretrained model's folder, or the one that the hub's files are kept in. ValueError if there is none."""
    name, folder = str(name_or_path), Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise ValueError(f"{name} is not a folder, nor the name of a model on the hub")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:  # the client's errors have no base class in common
        raise ValueError(f"{name} is not a folder, nor to be had from the hub: {first_line(error)}") from error


def base_folder(folder: Path) -> Path:
    """The folder of the public model that an adapter in peft's layout belongs to; any other folder itself."""
    return (
        pretrained_folder(peft.PeftConfig.read(folder).base_model_name_or_path) if peft.is_adapter(folder) else folder
    )


def read_family(folder: Path) -> Family[Any, Any]:
    """What the `config.json` of a folder says. Raises ValueError naming a field that is not supported."""
    return read_fields(folder)[0]


def read_fields(folder: Path) -> tuple[Family[Any, Any], list[str]]:
    """The same, and the fields that are passed over although they may mean something."""
    folder = base_folder(folder)
    fields = read_json(folder / CONFIG) | read_sentence_files(folder)
    try:
        family, unknown = find_family(fields.get("model_type")).from_fields(fields)
        family.to_config()  # refuses an impossible shape
        return family, unknown + family.remarks()
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error


def export_pretrained(
    model: nn.Module,
    folder: str | Path,
    family: str | None = None,
    tokenizer: Tokenizer | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    template: str = "",
) -> None:
    """Writes a model as a new folder that other tools load as one of a public family, atomically.

    family:    one of `families.FAMILIES`; by default `nearest_family`
    tokenizer: written into the folder in the format of the `tokenizers` library, with the files that came with it
    precision: of the weights written
    template:  the text of a chat template, by default the one that came with the tokenizer

    Raises ValueError naming the field that the family cannot express, and for a folder that already exists.
    """
    folder = Path(folder)
    exported = find_family(family or nearest_family(model.config)).from_config(model.config)
    companions = exported_companions(tokenizer, model.config, template)
    companions = replace(companions, generation={**companions.generation, **exported.generation()})
    if folder.exists():
        raise ValueError(f"{folder} already exists: give the name of a new folder")
    from safetensors.torch import save_file

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    ids = {name: companions.generation.get(f"{name}_token_id") for name in ("bos", "eos", "pad")}
    if tokenizer is not None:
        ids["pad"] = tokenizer.pad if ids["pad"] is None else ids["pad"]
        exported = exported.with_ids(ids)
    said = {"dtype": str(dtype).removeprefix("torch.")} | {f"{name}_token_id": token for name, token in ids.items()}
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        weights = {name: part.to(dtype) for name, part in exported_weights(exported, model).items()}
        save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / CONFIG, said | exported.to_fields())
        for name, content in exported.files().items():
            (temporary / name).parent.mkdir(exist_ok=True)
            write_text(temporary / name, json.dumps(content, indent=2) + "\n")
        if tokenizer is not None:
            write_text(temporary / FILE, public_json(tokenizer))
        companions.save(temporary)


def export_adapter(model: Any, config: AdapterConfig, folder: Path, base: str, family: str | None = None) -> None:
    """Writes the adapters of a model as a new folder in peft's layout, atomically.

    base:   the public model that they stand beside, by its folder or its name on the hub
    family: whose names its weights have; by default `nearest_family`

    Raises ValueError for a folder that already exists, and for a map that has no place in the family's layout.
    """
    from safetensors.torch import save_file

    if folder.exists():
        raise ValueError(f"{folder} already exists: give the name of a new folder")
    exported = find_family(family or nearest_family(model.config)).from_config(model.config)
    tensors, said = peft.peft_files(model, config, exported.rules(model.config), base)
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / peft.WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / peft.CONFIG, said)


def exported_weights(family: Family[Any, Any], model: nn.Module) -> dict[str, Tensor]:
    """A model's weights by their names in a family's files."""
    whole = family.completed(model)
    rules = family.rules(whole.config)
    weights = export_weights(whole, without_prefix(rules, family.prefix) if family.bare() else rules)
    return weights | family.constants()


def exported_companions(tokenizer: Tokenizer | None, config: Any, template: str = "") -> Companions:
    """What is written beside an exported tokenizer. Raises ValueError for one that does not fit the model."""
    if tokenizer is None:
        return Companions()
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(f"the tokenizer's {tokenizer.vocab_size} tokens are more than the model's {config.vocab_size}")
    own = tokenizer.companions if isinstance(tokenizer, LibraryTokenizer) else Companions()
    if template:
        own = own.with_template(template)
        tokenizer = tokenizer.beside(own) if isinstance(tokenizer, LibraryTokenizer) else tokenizer
    special = tokenizer.special
    named = {f"{name}_token": tokenizer.piece(token).decode().strip() for name, token in special.items()}
    usual = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context}
    types = ["token_type_ids"] if getattr(config, "types", 0) > 1 else []
    usual |= {"clean_up_tokenization_spaces": False, "model_input_names": ["input_ids", *types, "attention_mask"]}
    ids = {f"{name}_token_id": special[name] for name in ("bos", "eos") if name in special}
    generation = ids | {**own.generation} | end_ids(own.ids("eos"), tokenizer.stops)
    return replace(own, tokenizer=usual | named | {**own.tokenizer}, generation=generation)


def end_ids(given: Sequence[int], stops: Sequence[int]) -> dict[str, int | list[int]]:
    """The ids at which other tools end what a model writes: those that files give, and all at which ours does."""
    ends = list(dict.fromkeys([*given, *stops]))
    return {"eos_token_id": ends if len(ends) > 1 else ends[0]} if ends else {}
