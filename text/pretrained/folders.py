"""Models in and out, as folders in the layout of a public family, with numerically the same outputs.

A pretrained model is a folder in Hugging Face's layout: `config.json`, and `model.safetensors` or its shards.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from core.files.atomic import atomic_write, write_text
from core.files.json_files import read_json, write_json
from core.files.tensors import WEIGHTS, Safetensors, Uninitialised
from core.files.weights import export_weights, import_weights
from core.messages import first_line, nearest, notice
from text.models.gpt import GPT, GPTConfig
from text.pretrained.family import Family
from text.pretrained.gpt2 import GPT2
from text.pretrained.llama import Llama
from text.pretrained.nanochat import NanoChat
from text.pretrained.olmo import Olmo2, Olmo3
from text.pretrained.windowed import Mistral, Qwen2, Qwen3, SmolLM3
from text.tokens.base import FILE, Tokenizer
from text.tokens.bpe import BPETokenizer
from text.tokens.load import public_json
from text.tokens.special import Companions

CONFIG = "config.json"
FAMILIES: dict[str, type[Family]] = {
    family.model_type: family for family in (GPT2, Llama, Mistral, Qwen2, Qwen3, SmolLM3, Olmo2, Olmo3, NanoChat)
}
"""By the `model_type` of their `config.json`."""

HUB_FILES = [
    CONFIG,
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.*",
]
"""What is downloaded: safetensors and plain text, nothing that can execute code."""


def load_pretrained(name_or_path: str | Path) -> GPT:
    """A public model of one of FAMILIES, with its weights in float32, in evaluation mode.

    name_or_path: a folder, or the name of a model on the Hugging Face hub, which is downloaded once.

    Raises ValueError naming the file that is missing or damaged, the field of `config.json` that would change the
    mathematics, or the weights that are missing, unknown or of another shape. A pickle is never read.
    """
    folder = pretrained_folder(name_or_path)
    family, passed_over = read_fields(folder)
    if passed_over:
        notice(f"{folder / CONFIG}: passed over {', '.join(passed_over)}")
    weights = Unwrapped(Safetensors(folder))
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


class Unwrapped(Mapping[str, Tensor]):
    """Weights without what torch.compile and data-parallel training put into their names."""

    def __init__(self, weights: Mapping[str, Tensor]):
        self.weights = weights
        self.stored = {re.sub(r"^(module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.", "", name): name for name in weights}

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


def read_family(folder: Path) -> Family:
    """What the `config.json` of a folder says. Raises ValueError naming a field that is not supported."""
    return read_fields(folder)[0]


def read_fields(folder: Path) -> tuple[Family, list[str]]:
    """The same, and the fields that are passed over although they may mean something."""
    fields = read_json(folder / CONFIG)
    try:
        family, unknown = find_family(fields.get("model_type")).from_fields(fields)
        family.to_config()  # refuses an impossible shape
        return family, unknown + family.remarks()
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error


def find_family(model_type: object) -> type[Family]:
    """The family of that name. Raises ValueError for an unknown one."""
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ValueError(f"model_type = {model_type!r} is not a supported family; {nearest(str(model_type), FAMILIES)}")
    return FAMILIES[model_type]


def export_pretrained(
    model: GPT,
    folder: str | Path,
    family: str | None = None,
    tokenizer: Tokenizer | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> None:
    """Writes a model as a new folder that other tools load as one of a public family, atomically.

    family:    one of FAMILIES; by default `nearest_family`
    tokenizer: written into the folder in the format of the `tokenizers` library, with the files that came with it
    precision: of the weights written

    Raises ValueError naming the field that the family cannot express, and for a folder that already exists.
    """
    folder = Path(folder)
    exported = find_family(family or nearest_family(model.config)).from_config(model.config)
    companions = exported_companions(tokenizer, model.config)
    if folder.exists():
        raise ValueError(f"{folder} already exists: give the name of a new folder")
    from safetensors.torch import save_file

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    ids = {f"{name}_token_id": companions.generation.get(f"{name}_token_id") for name in ("bos", "eos", "pad")}
    whole = exported.completed(model)
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        weights = {name: part.to(dtype) for name, part in export_weights(whole, exported.rules(whole.config)).items()}
        save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / CONFIG, exported.to_fields() | {"dtype": str(dtype).removeprefix("torch.")} | ids)
        if tokenizer is not None:
            write_text(temporary / FILE, public_json(tokenizer))
            companions.save(temporary)


def nearest_family(config: GPTConfig) -> str:
    """The family whose layout is nearest to a model."""
    core = config.core
    if core.position.kind != "rotary":
        return "gpt2"
    if core.norm == "rms":
        return "nanochat"
    if core.norm_placement == "branch":
        return "olmo2" if core.window is None else "olmo3"
    if core.unpositioned_layers:
        return "smollm3"
    if core.qk_norm != "none":
        return "qwen3"
    if core.bias == "qkv":
        return "qwen2"
    return "llama" if core.window is None else "mistral"


def exported_companions(tokenizer: Tokenizer | None, config: GPTConfig) -> Companions:
    """What is written beside an exported tokenizer. Raises ValueError for one that does not fit the model."""
    if tokenizer is None:
        return Companions()
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(f"the tokenizer's {tokenizer.vocab_size} tokens are more than the model's {config.vocab_size}")
    own = tokenizer.companions if isinstance(tokenizer, BPETokenizer) else Companions()
    special = {"bos": tokenizer.bos, "eos": tokenizer.eos}
    named = {f"{name}_token": tokenizer.piece(token).decode() for name, token in special.items() if token is not None}
    usual = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context}
    usual |= {"clean_up_tokenization_spaces": False}
    ids = {f"{name}_token_id": token for name, token in special.items() if token is not None}
    return replace(own, tokenizer=usual | named | {**own.tokenizer}, generation=ids | {**own.generation})
