"""Public weights in, numerically the same outputs; and out again, for other tools to serve.

A pretrained model is a folder in Hugging Face's layout: `config.json`, and `model.safetensors` or its shards.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from core.files.atomic import atomic_write
from core.files.json_files import read_json
from core.files.tensors import WEIGHTS, Safetensors, Uninitialised
from core.files.weights import export_weights, import_weights
from core.messages import nearest
from text.models.gpt import GPT, GPTConfig
from text.pretrained.families import FAMILIES
from text.pretrained.family import Family
from text.tokens.base import Tokenizer

CONFIG = "config.json"
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
    """A public model with its weights, in float32 and evaluation mode, of one of `text.pretrained.families`.

    name_or_path: a folder, or the name of a model on the Hugging Face hub, which is downloaded once.

    Raises ValueError naming the file that is missing or damaged, the field of `config.json` that is unknown
    or would change the mathematics, the weights that are missing, unknown or of another shape. A pickle is
    never read.
    """
    folder = pretrained_folder(name_or_path)
    family = read_family(folder)
    weights = Safetensors(folder)
    with Uninitialised():
        model = GPT(family.config())
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
    """A pretrained model's folder: itself, or where the hub's files are kept. ValueError if there is none."""
    name, folder = str(name_or_path), Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise ValueError(f"{name} is not a folder, nor the name of a model on the hub")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:  # the client's errors have no base in common
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{name} is not a folder, and could not be had from the hub: {reason}") from error


def read_family(folder: Path) -> Family:
    """What the `config.json` of a folder says. Raises ValueError naming a field that is not handled."""
    fields = read_json(folder / CONFIG)
    try:
        family = _family(fields.get("model_type")).read(fields)
        family.config()  # refuses an impossible shape
        return family
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error


def family_of(config: GPTConfig) -> str:
    """The family whose layout is nearest to a model of ours."""
    if config.core.position.kind != "rotary":
        return "gpt2"
    if config.core.qk_norm != "none":
        return "qwen3"
    return "qwen2" if config.core.bias == "qkv" else "llama"


def export_pretrained(
    model: GPT, folder: str | Path, family: str | None = None, tokenizer: Tokenizer | None = None
) -> None:
    """Write a model as a new folder that other tools load as one of a public family; whole or not at all.

    family:    one of `text.pretrained.families`; by default `family_of` the model
    tokenizer: written beside it, in the format of the `tokenizers` library; a byte-pair encoding

    Raises ValueError naming the field that the family cannot express, and for a folder that is already there.
    """
    folder = Path(folder)
    theirs = _family(family or family_of(model.config)).of(model.config)
    beside = {} if tokenizer is None else _tokenizer_fields(tokenizer, model.config)
    ends = {f"{name}_token_id": getattr(tokenizer, name, None) for name in ("bos", "eos")}
    if folder.exists():
        raise ValueError(f"{folder} is already there: give the name of a new folder")
    from safetensors.torch import save_file

    with atomic_write(folder) as aside:
        aside.mkdir()
        save_file(export_weights(model, theirs.rules(model.config)), aside / WEIGHTS, metadata={"format": "pt"})
        _write_json(aside / CONFIG, theirs.write() | ends)
        if tokenizer is not None:
            tokenizer.save(aside)
            _write_json(aside / "tokenizer_config.json", beside)


def _family(name: object) -> type[Family]:
    if not isinstance(name, str) or name not in FAMILIES:
        raise ValueError(f"model_type = {name!r} is not a family that is known; {nearest(str(name), FAMILIES)}")
    return FAMILIES[name]


def _tokenizer_fields(tokenizer: Tokenizer, config: GPTConfig) -> dict[str, Any]:
    """A `tokenizer_config.json`."""
    if tokenizer.kind != "bpe":
        raise ValueError(f"tokenizer = {tokenizer.kind!r} has no place in a public layout, which holds: bpe")
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(f"the tokenizer's {tokenizer.vocab_size} tokens are more than the model's {config.vocab_size}")
    ends = {"bos_token": tokenizer.bos, "eos_token": tokenizer.eos}
    named = {name: tokenizer.piece(token).decode() for name, token in ends.items() if token is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context} | named


def _write_json(file: Path, fields: dict[str, Any]) -> None:
    file.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
