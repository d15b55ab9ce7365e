"""A model to start from: a public one, or a run of ours. Its shape, of which some may be changed, and its tokenizer."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.cli.arguments import with_fields
from core.files.json_files import read_json
from core.files.serialize import from_dict
from core.training.checkpoints import check_format
from text.models.encoder import EmbedderConfig, EncoderConfig, LabelledConfig
from text.pretrained.family import Config, differences
from text.pretrained.folders import CONFIG, base_folder, check_kind, pretrained_folder, read_family
from text.tokens.base import ByteTokenizer, Tokenizer
from text.tokens.load import load_tokenizer, published_gpt2

FREE = ("dropout", "attention_dropout", "drop_path")
"""Settings of a core that may be others than those its weights were trained with."""
ENCODER = ("vocab_size", "context", "types", "neighbours", "core")
"""Of the shape of a model with an encoder, what describes the encoder."""
PROBE = """
It's 12,345.67 o'clock, I'm "fine" -- we've  been\there: they'll SEE.\n\n\tdef f(x):\r\n        return x**2 != 10
\u00c9t\u00e9 \u6f22\u5b57 \u041c\u0438\u0440 \U0001f44d\U0001f3fd e\u0301   <|endoftext|>  https://a.b/c?d=e&f=1
"""
"""A text on which ways to split text differ."""


def is_run(folder: Path) -> bool:
    """Whether it is a run folder, rather than a public model."""
    return (folder / "checkpoints").is_dir() or (folder / "metrics.jsonl").exists()


def start_folder(name: str) -> Path:
    """The folder of a run, or of a public model, by its path or its name on the hub. ValueError if there is none."""
    folder = Path(name).expanduser()
    return folder if is_run(folder) else pretrained_folder(name)


def has_own_head(shape: Any) -> bool:
    """Whether a model of this shape takes over the encoder of the one it starts from, and has a new head on it."""
    return isinstance(shape, LabelledConfig | EmbedderConfig)


def start_shape(name: str, shape: Config) -> Config:
    """The shape of the model to start from, of the class of `shape`; or `shape` on the encoder of that model.

    Raises ValueError naming what is missing or not supported, or when it is of another class.
    """
    folder = start_folder(name)
    if isinstance(shape, EncoderConfig) and has_own_head(shape):
        own = _start_encoder(folder, name)
        return replace(shape, **{part: getattr(own, part) for part in ENCODER})
    if not is_run(folder):
        found = read_family(folder).to_config()
        check_kind(type(found), type(shape), name)
        return found
    return from_dict(type(shape), _saved_shape(folder), "model")


def reads_whole_words(name: str) -> bool:
    """Whether it is a run whose encoder was trained on words, not on their tokens (`words = early-mean`)."""
    folder = start_folder(name)
    return is_run(folder) and _saved_shape(folder).get("words") == "early-mean"


def _start_encoder(folder: Path, name: str) -> EncoderConfig:
    """The shape of the encoder of a model, whatever its head."""
    if not is_run(folder):
        found: Any = read_family(folder).to_config()
        check_kind(type(found), EncoderConfig, name)
        return EncoderConfig(**{part: getattr(found, part) for part in ENCODER})
    saved = _saved_shape(folder)
    if lacking := [part for part in ENCODER if part not in saved]:
        raise ValueError(f"init_from = {name!r} holds no encoder: its model has no {lacking[0]!r}")
    return from_dict(EncoderConfig, {part: saved[part] for part in ENCODER}, "model")


def _saved_shape(folder: Path) -> dict[str, Any]:
    """What the configuration of a run says of its model."""
    record = read_json(folder / CONFIG)
    check_format(folder / CONFIG, record)
    saved: dict[str, Any] = record.get("config", {}).get("model", {})
    return saved


def changed_shape(name: str, changes: Mapping[str, Any], shape: Config) -> Config:
    """That shape with a shorter context or another dropout, by dotted names. ValueError for a longer context."""
    own: Any = start_shape(name, shape)
    if changes.get("context", 0) > own.context:
        raise ValueError(f"model.context = {changes['context']} must be at most {own.context}, that of {name}")
    return with_fields(own, changes)


def differs_freely(shape: Any, own: Any) -> bool:
    """Whether a shape is that of the weights but for what may be changed."""
    return all(place.rpartition(".")[2] in (*FREE, "context") for place, *_ in differences(shape, own))


def start_tokenizer(name: str, asked: str) -> Tokenizer | str:
    """The tokenizer that belongs to the model; one that is `asked` for must give the same ids. Raises ValueError."""
    folder = start_folder(name)
    try:
        own = load_tokenizer(base_folder(folder))
    except ValueError:
        if not asked:
            raise
        return asked  # it has none, or none that can be read
    if not asked or asked == own.kind:
        return own
    other = named_tokenizer(asked)
    if other is None or not same_ids(own, other):
        raise ValueError(f"tokenizer = {asked!r} gives other ids than that of {name}, to which the weights belong")
    return own


def named_tokenizer(name: str) -> Tokenizer | None:
    """That of a name or a path; None for one that would be learned from a text."""
    match name:
        case "char" | "bpe" | "wordpiece" | "affixes":
            return None
        case "byte":
            return ByteTokenizer()
        case "gpt2":
            return published_gpt2()
    return load_tokenizer(Path(name).expanduser())


def same_ids(a: Tokenizer, b: Tokenizer) -> bool:
    """Whether two tokenizers give equal ids: they have the same pieces, and encode a difficult text alike."""
    if list(a.pieces) != list(b.pieces):
        return False
    return a == b or [*a.encode(PROBE)] == [*b.encode(PROBE)]
