"""Public weights in, with numerically the same outputs.

A pretrained model is a folder in Hugging Face's layout: `config.json`, and `model.safetensors` or its shards.
"""

from __future__ import annotations

import re
from pathlib import Path

from core.files.json_files import read_json
from core.files.tensors import Safetensors, Uninitialised
from core.files.weights import import_weights
from core.messages import first_line
from text.models.gpt import GPT
from text.pretrained.families import find_family
from text.pretrained.family import CONFIG, Family

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
    """A public model of one of `text.pretrained.families`, with its weights in float32, in evaluation mode.

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
