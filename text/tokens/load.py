"""Tokenizers from files: saved ones, those of public models, and GPT-2's published one."""

import json
from pathlib import Path

from core.files.downloads import Remote, fetch
from text.tokens.base import FILE, ByteTokenizer, CharTokenizer, Tokenizer
from text.tokens.bpe import BPETokenizer

GPT2_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
GPT2_PUBLISHED = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
"""OpenAI's own files, each with its SHA-256."""


def load_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer of a folder: `tokenizer.json`, or GPT-2's two files under either of their names.

    `path` may also be a `tokenizer.json` itself. Raises ValueError if there is none, or it is of another kind.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if file.is_file():
        return _read(file)
    for vocabulary, merges in GPT2_FILES:
        if (path / vocabulary).is_file() and (path / merges).is_file():
            return BPETokenizer.from_gpt2(path / vocabulary, path / merges)
    accepted = ", or ".join([FILE, *(" and ".join(pair) for pair in GPT2_FILES)])
    raise ValueError(f"there is no tokenizer in {path}: accepted are {accepted}")


def _read(file: Path) -> Tokenizer:
    try:
        match json.loads(file.read_text(encoding="utf-8")):
            case {"tokenizer": "char", "characters": str(characters)}:
                return CharTokenizer(characters)
            case {"tokenizer": "byte"}:
                return ByteTokenizer()
        from tokenizers import Tokenizer as Backend

        return BPETokenizer(Backend.from_file(str(file)))
    except Exception as error:  # the library raises nothing more precise
        raise ValueError(f"{file} is not a readable tokenizer: {error}") from error


def published_gpt2(root: Path | None = None) -> BPETokenizer:
    """GPT-2's published tokenizer, from under `root` (default: `data_root()`), downloaded if it is not there."""
    home = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main"
    instead = "use the char, byte or bpe tokenizer, which need no files"
    vocabulary, merges = (
        fetch(Remote(f"gpt2-bpe/{name}", f"{home}/{name}", sha256, instead), root)
        for name, sha256 in GPT2_PUBLISHED.items()
    )
    return BPETokenizer.from_gpt2(vocabulary, merges)
