"""Unigram tokenizers of SentencePiece (Kudo 2018), those of T5 and MarianMT, as a `tokenizer.json` describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text.tokens.base import FILE
from text.tokens.bpe import sentencepiece_piece
from text.tokens.library import LibraryTokenizer
from text.tokens.special import Companions

if TYPE_CHECKING:
    import tokenizers

HIDDEN = "\ue000 special token "  # no piece of a text: a space never stands in one
END, SENTINEL = "</s>", "<extra_id_{}>"
INSTEAD = {
    "spiece.model": "transformers writes it: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
    "source.spm": "that of the model's conversion for transformers.js (Xenova/opus-mt-...) has the same ids",
}
"""Files of SentencePiece's own, and where a `tokenizer.json` in their place comes from."""


class UnigramTokenizer(LibraryTokenizer):
    """The most probable way to cut a text into pieces, each with a probability of its own.

    What no piece covers becomes the unknown token. Special tokens are those that its companions name; without any,
    they are known by common names. Raises ValueError if the library's tokenizer is of another family.
    """

    kind = "unigram"

    def __init__(self, backend: tokenizers.Tokenizer, companions: Companions | None = None) -> None:
        description = json.loads(backend.to_str())
        if not is_unigram(description):
            raise ValueError(f"a unigram tokenizer is needed, got {description['model'].get('type', 'BPE')}")
        super().__init__(backend, companions)
        self.prefix = b" " if _begins_with_space(description) else b""
        named = self._named("eos")
        self.eos = backend.token_to_id(END) if named is None else named
        ends = [self.eos, *self.companions.ids("eos")]
        self.stops = tuple(dict.fromkeys(end for end in ends if end is not None))

    def _reading_text(self, backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
        """The same tokenizer, but no text contains the name of a special token: pieces of these names get others."""
        description = json.loads(backend.to_str())
        names, model = {token["content"] for token in description["added_tokens"]}, description["model"]
        pieces = [[f"{HIDDEN}{n}" if piece in names else piece, p] for n, (piece, p) in enumerate(model["vocab"])]
        changed = {**description, "added_tokens": [], "model": {**model, "vocab": pieces}}
        return type(backend).from_str(json.dumps(changed))

    @cached_property
    def sentinels(self) -> tuple[int, ...]:
        """The ids of <extra_id_0>, <extra_id_1>, ..., which stand for what is left out (Raffel 2020, 3.1.4)."""
        found: list[int] = []
        while (index := self._backend.token_to_id(SENTINEL.format(len(found)))) is not None:
            found.append(index)
        return tuple(found)

    @cached_property
    def pieces(self) -> list[bytes]:
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        added = {token.content for token in self._backend.get_added_tokens_decoder().values()}
        pieces = [b""] * (max(vocabulary.values()) + 1)
        for token, index in vocabulary.items():
            pieces[index] = token.encode() if token in added else sentencepiece_piece(token)
        return pieces


def is_unigram(description: Mapping[str, Any]) -> bool:
    """Whether a `tokenizer.json` describes a unigram tokenizer; its pieces may have no name of a type."""
    model = description.get("model") or {}
    return model.get("type") == "Unigram" or ("unk_id" in model and isinstance(model.get("vocab"), list))


def refuse_sentencepiece(folder: Path) -> None:
    """Raises ValueError if the tokenizer of a folder is there in SentencePiece's own files alone."""
    for name, instead in INSTEAD.items():
        if (folder / name).is_file():
            raise ValueError(f"{folder} has {name} in place of a {FILE}, which is needed: {instead}")


def _begins_with_space(description: Mapping[str, Any]) -> bool:
    """Whether a text is encoded as if a space stood before it, which decoding takes away again."""
    decoder = description["decoder"] or {}
    steps = decoder["decoders"] if decoder.get("type") == "Sequence" else [decoder]
    return any(step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never" for step in steps)
