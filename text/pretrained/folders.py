"""Models in and out, as folders in the layout of a public family, with numerically the same outputs.

A pretrained model is a folder in Hugging Face's layout: `config.json`, and `model.safetensors` or its shards.
"""

import re
from pathlib import Path
from typing import Any

from core.files.atomic import atomic_write
from core.files.json_files import read_json, write_json
from core.files.tensors import WEIGHTS, Safetensors, Uninitialised
from core.files.weights import export_weights, import_weights
from core.messages import first_line, nearest
from text.models.gpt import GPT, GPTConfig
from text.pretrained.family import Family
from text.pretrained.gpt2 import GPT2
from text.pretrained.llama import Llama, Mistral, Qwen2, Qwen3
from text.tokens.base import Tokenizer

CONFIG = "config.json"
FAMILIES: dict[str, type[Family]] = {family.model_type: family for family in (GPT2, Llama, Mistral, Qwen2, Qwen3)}
"""By the `model_type` of their `config.json`."""

HUB_FILES = [
    CONFIG,
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*.json",
    "vocab.json",
    "merges.txt",
]
"""What is downloaded: safetensors and plain text, nothing that can execute code."""


def load_pretrained(name_or_path: str | Path) -> GPT:
    """A public model of one of FAMILIES, with its weights in float32, in evaluation mode.

    name_or_path: a folder, or the name of a model on the Hugging Face hub, which is downloaded once.

    Raises ValueError naming the file that is missing or damaged, the field of `config.json` that is unknown or would
    change the mathematics, or the weights that are missing, unknown or of another shape. A pickle is never read.
    """
    folder = pretrained_folder(name_or_path)
    family = read_family(folder)
    weights = Safetensors(folder)
    with Uninitialised():
        model = GPT(family.to_config())
    rules, tied_to = family.rules(model.config), family.embedding
    if not any(name.startswith(family.prefix) for name in weights):  # saved without a head
        rules = [rule.renamed(lambda name: name.removeprefix(family.prefix)) for rule in rules]
        tied_to = tied_to.removeprefix(family.prefix)
    repeated = {"lm_head.weight": tied_to} if model.config.head == "tied" else {}
    try:
        import_weights(model, weights, rules, ignored=family.buffers, repeated=repeated)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return model.eval()


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


def read_family(folder: Path) -> Family:
    """What the `config.json` of a folder says. Raises ValueError naming a field that is not supported."""
    fields = read_json(folder / CONFIG)
    try:
        family = find_family(fields.get("model_type")).from_fields(fields)
        family.to_config()  # refuses an impossible shape
        return family
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error


def find_family(model_type: object) -> type[Family]:
    """The family of that name. Raises ValueError for an unknown one."""
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ValueError(f"model_type = {model_type!r} is not a supported family; {nearest(str(model_type), FAMILIES)}")
    return FAMILIES[model_type]


def export_pretrained(
    model: GPT, folder: str | Path, family: str | None = None, tokenizer: Tokenizer | None = None
) -> None:
    """Writes a model as a new folder that other tools load as one of a public family, atomically.

    family:    one of FAMILIES; by default `nearest_family`
    tokenizer: a byte-pair encoding, written into the folder in the format of the `tokenizers` library

    Raises ValueError naming the field that the family cannot express, and for a folder that already exists.
    """
    folder = Path(folder)
    exported = find_family(family or nearest_family(model.config)).from_config(model.config)
    settings = {} if tokenizer is None else tokenizer_fields(tokenizer, model.config)
    special = {f"{name}_token_id": getattr(tokenizer, name, None) for name in ("bos", "eos")}
    if folder.exists():
        raise ValueError(f"{folder} already exists: give the name of a new folder")
    from safetensors.torch import save_file

    with atomic_write(folder) as temporary:
        temporary.mkdir()
        weights = export_weights(model, exported.rules(model.config))
        save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / CONFIG, exported.to_fields() | special)
        if tokenizer is not None:
            tokenizer.save(temporary)
            write_json(temporary / "tokenizer_config.json", settings)


def nearest_family(config: GPTConfig) -> str:
    """The family whose layout is nearest to a model."""
    if config.core.position.kind != "rotary":
        return "gpt2"
    if config.core.qk_norm != "none":
        return "qwen3"
    return "qwen2" if config.core.bias == "qkv" else "llama"


def tokenizer_fields(tokenizer: Tokenizer, config: GPTConfig) -> dict[str, Any]:
    """A `tokenizer_config.json`. Raises ValueError for a tokenizer that cannot be exported with the model."""
    if tokenizer.kind != "bpe":
        raise ValueError(f"tokenizer = {tokenizer.kind!r} cannot be expressed in a public layout, which supports: bpe")
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(f"the tokenizer's {tokenizer.vocab_size} tokens are more than the model's {config.vocab_size}")
    special = {"bos_token": tokenizer.bos, "eos_token": tokenizer.eos}
    named = {name: tokenizer.piece(token).decode() for name, token in special.items() if token is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context} | named
