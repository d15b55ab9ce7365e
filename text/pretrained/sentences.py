"""What sentence-transformers writes beside a `config.json`: how the vectors of a text's tokens become one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.files.json_files import read_json
from text.models.encoder import EmbedderConfig
from text.models.heads import Pooling

MODULES, POOLING, TRANSFORMER = "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"
MODES: dict[str, Pooling] = {"cls": "class", "mean": "mean", "max": "max"}
"""Of their ways of pooling, ours."""
FLAGS = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens"}
KIND = "sentence_transformers.models."
CHAINS = (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
"""The chains of modules that an Embedder equals."""


def read_sentence_files(folder: Path) -> dict[str, Any]:
    """A field `sentence_transformers` with what they say in a folder; no field where there is no `modules.json`.

    Raises ValueError naming a module, or a way of pooling, that is not supported.
    """
    if not (folder / MODULES).is_file():
        return {}
    modules = _read_modules(folder / MODULES)
    kinds = [kind for kind, _ in modules]
    if kinds not in CHAINS or modules[0][1]:
        accepted = ", or ".join(" > ".join(chain) for chain in CHAINS)
        raise ValueError(f"{folder / MODULES} chains {' > '.join(kinds)}, accepted is: {accepted}")
    pooling = "mean" if len(kinds) == 1 else _read_pooling(folder / modules[1][1] / "config.json")
    limit = read_json(folder / TRANSFORMER).get("max_seq_length") if (folder / TRANSFORMER).is_file() else None
    return {
        "sentence_transformers": {
            "pooling": pooling,
            "length": "unit" if "Normalize" in kinds else "free",
            "max_tokens": limit,
        }
    }


def _read_modules(file: Path) -> list[tuple[str, str]]:
    """The class of each module, and the name of its folder."""
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
        modules = [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in listed]
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(f"{file} is not a list of modules: {error}") from error
    if outside := [path for _, path in modules if Path(path).name != path]:
        raise ValueError(f"{file} names {outside[0]!r}, which is no folder beside it")
    return modules


def _read_pooling(file: Path) -> Pooling:
    said = read_json(file)
    modes = [name for name, value in said.items() if name.startswith("pooling_mode_") and value]
    modes += [str(said["pooling_mode"])] if said.get("pooling_mode") else []
    known = {name: MODES[mode] for mode, flag in FLAGS.items() for name in (mode, flag)}
    if len(modes) != 1 or modes[0] not in known:
        raise ValueError(f"{file} pools by {' and '.join(modes) or 'nothing'}, accepted is one of: {', '.join(known)}")
    return known[modes[0]]


def sentence_files(config: EmbedderConfig) -> dict[str, Any]:
    """The files that say the same of a model of ours, by their names."""
    names = ["Transformer", "Pooling", *(["Normalize"] if config.length == "unit" else [])]
    paths = ["", *(f"{number}_{name}" for number, name in enumerate(names) if number)]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": KIND + name}
        for number, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    flags = {flag: MODES[mode] == config.pooling for mode, flag in FLAGS.items()}
    limit = {TRANSFORMER: {"max_seq_length": config.max_tokens, "do_lower_case": False}} if config.max_tokens else {}
    return {MODULES: modules, POOLING: {"word_embedding_dimension": config.core.dim} | flags, **limit}
