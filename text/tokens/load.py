"""Tokenizers from files: saved ones, those of public models, and GPT-2's published one."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core.files.downloads import Remote, fetch
from text.tokens.affixes import AffixTokenizer
from text.tokens.base import FILE, ByteTokenizer, CharTokenizer, Tokenizer
from text.tokens.bpe import BPETokenizer, Split, byte_alphabet, byte_level
from text.tokens.library import LibraryTokenizer
from text.tokens.special import Companions
from text.tokens.unigram import UnigramTokenizer, is_unigram, refuse_sentencepiece
from text.tokens.wordpiece import WordPieceTokenizer, is_wordpiece

GPT2_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
GPT2_PUBLISHED = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
"""OpenAI's own files, each with its SHA-256."""
SPLITS: dict[str, Split] = {"gpt2": "gpt2", "qwen2": "qwen2", "qwen3": "qwen2", "roberta": "roberta"}
"""By the class of a tokenizer or the family of its model: how text is split before merges apply."""
WORDPIECE, VOCABULARY = ("bert", "distilbert", "electra", "mobilebert"), "vocab.txt"
"""The classes and families whose `vocab.txt` is read as BERT's."""


def load_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer of a folder: `tokenizer.json`, or a vocabulary and its merges, and what is said beside them.

    `path` may also be a `tokenizer.json` itself. Raises ValueError if there is none, or it is of another kind.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if file.is_file():
        return _read(file)
    refuse_sentencepiece(path)
    for vocabulary, merges in GPT2_FILES:
        if (path / vocabulary).is_file() and (path / merges).is_file():
            companions = Companions.read(path)
            split = SPLITS[_named(path, companions, "gpt2", SPLITS, "a vocabulary and merges")]
            return BPETokenizer.from_pair(path / vocabulary, path / merges, split, companions)
    if (path / VOCABULARY).is_file():
        companions = Companions.read(path)
        _named(path, companions, "bert", WORDPIECE, VOCABULARY)
        return WordPieceTokenizer.from_vocabulary(path / VOCABULARY, companions)
    accepted = ", or ".join([FILE, *(" and ".join(pair) for pair in GPT2_FILES), VOCABULARY])
    raise ValueError(f"there is no tokenizer in {path}: accepted are {accepted}")


def _read(file: Path) -> Tokenizer:
    companions = Companions.read(file.parent)
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
        match described:
            case {"tokenizer": "char", "characters": str(characters)}:
                return CharTokenizer(characters)
            case {"tokenizer": "byte"}:
                return ByteTokenizer()
            case {"tokenizer": "affixes", "parts": list(parts)}:
                return AffixTokenizer(parts)
        from tokenizers import Tokenizer as Backend

        if plain := _plain(described):
            return plain
        return _kind(described)(Backend.from_file(str(file)), companions)
    except Exception as error:  # the library raises nothing more precise
        raise ValueError(f"{file} is not a readable tokenizer: {error}") from error


def _kind(described: Any) -> type[BPETokenizer | WordPieceTokenizer | UnigramTokenizer]:
    """What a `tokenizer.json` describes."""
    if is_wordpiece(described):
        return WordPieceTokenizer
    return UnigramTokenizer if is_unigram(described) else BPETokenizer


def _named(folder: Path, companions: Companions, usual: str, known: Iterable[str], files: str) -> str:
    """How files without a `tokenizer.json` are to be read: by the tokenizer's class, or by the model's family."""
    named = companions.tokenizer.get("tokenizer_class") or companions.model_type or usual
    family = named.removesuffix("Fast").removesuffix("Tokenizer").lower()
    if family not in known:
        raise ValueError(
            f"{folder} has no {FILE}, and {files} of {named} do not say how text is split: known are {', '.join(known)}"
        )
    return family


def published_gpt2(root: Path | None = None) -> BPETokenizer:
    """GPT-2's published tokenizer, from under `root` (default: `data_root()`), downloaded if it is not there."""
    home = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main"
    instead = "use the char, byte or bpe tokenizer, which need no files"
    vocabulary, merges = (
        fetch(Remote(f"gpt2-bpe/{name}", f"{home}/{name}", sha256, instead), root)
        for name, sha256 in GPT2_PUBLISHED.items()
    )
    return BPETokenizer.from_pair(vocabulary, merges)


# Characters and bytes in the format of the `tokenizers` library: a byte-pair encoding without merges


def public_json(tokenizer: Tokenizer) -> str:
    """A tokenizer in the format of the `tokenizers` library, which other tools read; `load_tokenizer` reads it back."""
    if isinstance(tokenizer, LibraryTokenizer):
        return tokenizer.to_json()
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models

    if isinstance(tokenizer, CharTokenizer):
        backend = Backend(models.BPE({character: index for index, character in enumerate(tokenizer.characters)}, []))
        backend.decoder = decoders.Fuse()
    else:
        backend = byte_level(models.BPE(byte_alphabet(), []), "bytes")
    return backend.to_str()


def _plain(described: Any) -> Tokenizer | None:
    """The tokenizer of characters or bytes that `public_json` describes so; None for any other."""
    if not (isinstance(described, dict) and isinstance(model := described.get("model"), dict)):
        return None
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or model.get("merges") or not vocabulary:
        return None
    plain: list[Tokenizer] = [ByteTokenizer()] if len(vocabulary) == 256 else []
    if max(map(len, vocabulary)) == 1:
        plain.append(CharTokenizer(vocabulary))
    parts = ("normalizer", "pre_tokenizer", "model", "decoder")
    return next(
        (own for own in plain if all(json.loads(public_json(own))[part] == described.get(part) for part in parts)), None
    )
