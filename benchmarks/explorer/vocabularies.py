"""Tokenizers for the page, which encodes what is typed as Python does."""

from __future__ import annotations

import base64
import json
from typing import Any

from text.tokens.base import Tokenizer

WORDS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+"
    r"|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+",
    "whole": r"[^]+",
}
"""How a text is split into words before bytes are joined, in JavaScript."""


def describe_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """The pieces of a vocabulary, and how a text becomes ids. Raises ValueError naming a kind that the page lacks."""
    before, after = tokenizer.frame
    said = {
        "kind": tokenizer.kind,
        "pieces": [base64.b64encode(piece).decode() for piece in tokenizer.pieces],
        "special": tokenizer.special,
        "frame": [list(before), list(after)],
        "stops": list(tokenizer.stops),
        "bos": tokenizer.bos,
    }
    if tokenizer.kind in ("char", "byte"):
        return said
    if tokenizer.kind == "bpe":
        return said | describe_bpe(json.loads(tokenizer.to_json()))
    raise ValueError(f"a {tokenizer.kind} tokenizer is not known to the page: char, byte and byte-level bpe are")


def describe_bpe(file: dict[str, Any]) -> dict[str, Any]:
    """The merges of a byte-level encoding and its way of splitting words. Raises ValueError for another encoding."""
    model, splitter = file["model"], file["pre_tokenizer"] or {}
    if splitter.get("type") != "ByteLevel" or file["normalizer"] is not None:
        kind = splitter.get("type") or "none"
        raise ValueError(f"a bpe tokenizer that splits words by {kind} is not known to the page: GPT-2's way is")
    if splitter.get("add_prefix_space") or model.get("ignore_merges"):
        raise ValueError("a bpe tokenizer that adds a space, or ignores merges, is not known to the page")
    merges = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    ids = dict(model["vocab"])
    return {
        "merges": [[ids[a], ids[b], ids[a + b]] for a, b in merges],
        "regexp": WORDS["gpt2" if splitter.get("use_regex", True) else "whole"],
        "bytes": byte_ids(ids),
    }


def byte_ids(ids: dict[str, int]) -> list[int | None]:
    """The id of each byte's token."""
    from text.tokens.bpe import byte_alphabet

    by_byte = {byte: ids.get(symbol) for symbol, byte in byte_alphabet().items()}
    return [by_byte[byte] for byte in range(256)]
