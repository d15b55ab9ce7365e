"""Byte-pair encoding through the `tokenizers` library: learned from a corpus, or read from public files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from text.tokens.library import LibraryTokenizer, add_tokens
from text.tokens.special import Companions

if TYPE_CHECKING:
    import tokenizers

END_OF_TEXT = ("<|endoftext|>", "</s>", "<|end_of_text|>")  # GPT-2, Llama 2, Llama 3
BEGIN_OF_TEXT = ("<s>", "<|begin_of_text|>")
NEVER_IN_UTF8 = {0xC0, 0xC1, *range(0xF5, 0x100)}

Split = Literal["gpt2", "roberta", "qwen2", "bytes"]
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2 (and GPT-4) splits a text into words, digits apart."""


class BPETokenizer(LibraryTokenizer):
    """A byte-pair encoding, byte-level as GPT-2's, or SentencePiece's as Llama 2's.

    Text is only ever text: the name of a special token in it is encoded letter by letter, and no token is added before
    or after. Special tokens are those that its companions name; without any, they are known by common names. Raises
    ValueError if the library's tokenizer is of another family.
    """

    kind = "bpe"

    def __init__(self, backend: tokenizers.Tokenizer, companions: Companions | None = None) -> None:
        description = json.loads(backend.to_str())
        self._family = _family(description)
        missing = [byte for symbol, byte in byte_alphabet().items() if backend.token_to_id(symbol) is None]
        if self._family == "byte-level" and (needed := sorted({*missing} - NEVER_IN_UTF8)):
            raise ValueError(f"a byte-level vocabulary must hold every byte of UTF-8, {needed[0]} is missing")
        self.prefix = _prefix(description)
        super().__init__(backend, companions)
        named = self._named("eos")
        usual = self.frame[1][-1] if self.frame[1] else _first_known(backend, END_OF_TEXT)
        self.eos = usual if named is None else named
        self.bos = self._first()
        self.stops = self._ends()

    def _first(self) -> int | None:
        """The token that encoding puts before a text."""
        if isinstance(explicit := self.companions.tokenizer.get("add_bos_token"), bool):
            return self._named("bos") if explicit else None
        if self._backend.post_processor is None and self.companions == Companions():
            return _first_known(self._backend, BEGIN_OF_TEXT)
        first, plain = (self._backend.encode("a", add_special_tokens=added).ids[:1] for added in (True, False))
        return None if first == plain else first[0]

    def _ends(self) -> tuple[int, ...]:
        """The ids at which generation ends, that of a turn of a chat among them."""
        added = self._backend.get_added_tokens_decoder().values()
        turn = self.companions.end_of_turn(token.content for token in added if token.special)
        ends = [self.eos, *self.companions.ids("eos"), None if turn is None else self._backend.token_to_id(turn)]
        return tuple(dict.fromkeys(end for end in ends if end is not None))

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> BPETokenizer:
        """Learned from texts (Sennrich et al. 2016, over bytes as in GPT-2, Radford et al. 2019).

        Id 0 is the end of a text, then come the 256 bytes, then the merges. A small corpus may not have enough pairs to
        reach `vocab_size`. Raises ValueError for a `vocab_size` below 257.
        """
        from tokenizers import models, trainers

        if vocab_size < 257:
            raise ValueError(f"vocab_size must be at least 257 (256 bytes and the end of a text), got {vocab_size}")
        backend = byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_TEXT[0]],
            initial_alphabet=sorted(byte_alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        return cls(backend)

    @classmethod
    def from_pair(
        cls, vocabulary: Path, merges: Path, split: Split = "gpt2", companions: Companions | None = None
    ) -> BPETokenizer:
        """A vocabulary and its merges: `vocab.json` and `merges.txt`, or `encoder.json` and `vocab.bpe`.

        split: how text is split into words before, which the two files do not say; RoBERTa's as GPT-2's, but framed
        """
        from tokenizers import models

        companions = companions or Companions()
        try:
            model = models.BPE.from_file(str(vocabulary), str(merges))
        except Exception as error:  # the library raises nothing more precise
            raise ValueError(f"{vocabulary} and {merges} are not a vocabulary and its merges: {error}") from error
        backend = byte_level(model, split, bool(companions.tokenizer.get("add_prefix_space")))
        if backend.token_to_id(END_OF_TEXT[0]) is not None:
            backend.add_special_tokens([END_OF_TEXT[0]])
        add_tokens(backend, companions, vocabulary)
        if split == "roberta":
            frame_as_roberta(backend)
        return cls(backend, companions)

    def extended(
        self,
        names: Sequence[str],
        companions: Companions | None = None,
        before: Literal["space", "nothing"] = "space",
    ) -> BPETokenizer:
        """The same encoding with more special tokens, whose ids follow the vocabulary.

        companions: default the same
        before: where their names are read as these tokens, whether a space before one is part of what it stands for
        """
        from tokenizers import AddedToken

        backend = type(self._backend).from_str(self._backend.to_str())
        spaced = before == "space"
        backend.add_special_tokens([AddedToken(name, lstrip=spaced, special=True) for name in names])
        return BPETokenizer(backend, companions or self.companions)

    def framed(self, before: Sequence[int], after: Sequence[int]) -> BPETokenizer:
        """The same encoding with special tokens before and after a text, as other tools then put them too."""
        from tokenizers import processors

        backend = type(self._backend).from_str(self._backend.to_str())
        first, last = ([str(backend.id_to_token(token)) for token in side] for side in (before, after))
        named = [(name, backend.token_to_id(name)) for name in {*first, *last}]
        single, second = [*first, "$A", *last], ["$B:1", *(f"{name}:1" for name in last)]
        backend.post_processor = processors.TemplateProcessing(
            single=" ".join(single), pair=" ".join(single + second), special_tokens=sorted(named)
        )
        return BPETokenizer(backend, self.companions)

    @cached_property
    def pieces(self) -> list[bytes]:
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        added = {token.content for token in self._backend.get_added_tokens_decoder().values()}
        read = _byte_level_piece if self._family == "byte-level" else sentencepiece_piece
        pieces = [b""] * (max(vocabulary.values()) + 1)
        for token, index in vocabulary.items():
            pieces[index] = token.encode() if token in added else read(token)
        return pieces

    @cached_property
    def fingerprint(self) -> str:
        """As of any tokenizer; the end of a text, which stands between documents, counts too."""
        usual = self.eos == _first_known(self._backend, END_OF_TEXT)
        return hashlib.sha256((self.to_json() + ("" if usual else f" {self.eos}")).encode()).hexdigest()


def byte_level(
    model: tokenizers.models.Model, split: Split = "gpt2", prefix_space: bool = False
) -> tokenizers.Tokenizer:
    """A model with a public way of splitting into words, and GPT-2's alphabet of bytes."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    backend = Backend(model)
    if split == "qwen2":
        words = pre_tokenizers.Split(Regex(QWEN2_WORDS), "isolated")
        alphabet = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([words, alphabet])
        backend.normalizer = normalizers.NFC()
    else:
        words_too = split != "bytes"
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=words_too)
    backend.decoder = decoders.ByteLevel()
    return backend


def frame_as_roberta(backend: tokenizers.Tokenizer) -> None:
    """RoBERTa's special tokens (Liu 2019): <s> before a text, </s> after it and twice between two.

    Raises ValueError naming one that the vocabulary lacks.
    """
    from tokenizers import AddedToken, processors

    names = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    ids = {name: index for name in names if (index := backend.token_to_id(name)) is not None}
    if lacking := [name for name in names if name not in ids]:
        raise ValueError(f"the vocabulary of a RoBERTa must hold {lacking[0]}")
    backend.add_special_tokens([AddedToken(name, lstrip=name == "<mask>", normalized=False) for name in names])
    first, last = ("<s>", ids["<s>"]), ("</s>", ids["</s>"])
    backend.post_processor = processors.RobertaProcessing(last, first, trim_offsets=True, add_prefix_space=False)


def _first_known(backend: tokenizers.Tokenizer, names: Iterable[str]) -> int | None:
    return next((index for name in names if (index := backend.token_to_id(name)) is not None), None)


@cache
def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for every byte: itself if visible in Latin-1, else one from U+0100 on."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


def _byte_level_piece(token: str) -> bytes:
    alphabet = byte_alphabet()
    return bytes(alphabet[c] for c in token) if all(c in alphabet for c in token) else token.encode()


def sentencepiece_piece(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace("\u2581", " ").encode()


# Reading a tokenizer.json. A part of it is one step, or a "Sequence" of steps.


def _steps(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    if part is None:
        return []
    if part["type"] == "Sequence":
        return next(value for value in part.values() if isinstance(value, list))
    return [part]


def _family(description: dict[str, Any]) -> Literal["byte-level", "sentencepiece"]:
    model = description["model"].get("type", "BPE")
    decoders = {step["type"] for step in _steps(description["decoder"])}
    if model == "BPE" and "ByteLevel" in decoders:
        return "byte-level"
    if model == "BPE" and decoders & {"ByteFallback", "Metaspace"}:
        return "sentencepiece"
    described = f"{model} with {', '.join(sorted(decoders)) or 'no decoder'}"
    raise ValueError(f"a tokenizer must be byte-pair encoding, byte-level or SentencePiece's, got {described}")


def _prefix(description: dict[str, Any]) -> bytes:
    for step in _steps(description["decoder"]):
        if step["type"] == "Strip" and step["content"] == " " and step["start"] > 0:
            return b" "
        if step["type"] == "Metaspace" and step.get("prepend_scheme", "always") != "never":
            return b" "
    return b""
