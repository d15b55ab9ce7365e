"""Models out, in the layout of a public family, for other tools to load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.files.atomic import atomic_write
from core.files.json_files import write_json
from core.files.tensors import WEIGHTS
from core.files.weights import export_weights
from text.models.config import GPTConfig
from text.models.gpt import GPT
from text.pretrained.families import find_family
from text.pretrained.family import CONFIG
from text.tokens.base import Tokenizer


def export_pretrained(
    model: GPT, folder: str | Path, family: str | None = None, tokenizer: Tokenizer | None = None
) -> None:
    """Writes a model as a new folder that other tools load as one of a public family, atomically.

    family:    one of `text.pretrained.families`; by default `nearest_family`
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
