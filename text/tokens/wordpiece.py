"""WordPiece (Wu 2016) as in BERT, through the `tokenizers` library: learned from a text, or read from public files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from text.tokens.base import Ids, check_words
from text.tokens.library import LibraryTokenizer, add_tokens
from text.tokens.special import Companions, Special

if TYPE_CHECKING:
    import tokenizers

INNER = "##"
"""What the name of a token begins with that continues a word."""
MARK = "\ue000"  # at the beginning of a word, while tokens are learned; no text contains it
SPECIAL: dict[Special, str] = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
"""Special tokens, in the order in which BERT has them, and how it writes them."""
CLOSING = tuple(".,:;!?)]}%")
"""Marks that are written without a space before them."""


class WordPieceTokenizer(LibraryTokenizer):
    """The longest tokens that cover a word from its beginning; a word that they cannot cover is unknown.

    Encoding is not lossless: spaces, and in an uncased vocabulary case and accents, are not told apart. Decoding puts
    one space between words and none before a closing mark. Raises ValueError if the library's tokenizer is of another
    kind.
    """

    kind = "wordpiece"
    prefix = b" "

    def __init__(self, backend: tokenizers.Tokenizer, companions: Companions | None = None) -> None:
        model = backend.model
        if type(model).__name__ != "WordPiece" or model.continuing_subword_prefix != INNER:
            raise ValueError(f"a WordPiece tokenizer must continue words with {INNER}, got a {type(model).__name__}")
        super().__init__(backend, companions)
        if (unknown := backend.token_to_id(model.unk_token)) is None:
            raise ValueError(f"the vocabulary lacks the token for unknown words, {model.unk_token}")
        self.unk: int = unknown
        self.eos = self.frame[1][-1] if self.frame[1] else None
        self.stops = () if self.eos is None else (self.eos,)

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, case: Literal["lower", "kept"] = "lower"
    ) -> WordPieceTokenizer:
        """Learned from texts: the special tokens of BERT first, then characters, then what is merged from them.

        case: whether texts are lower-cased and lose their accents first, as for BERT's uncased vocabulary

        Every character that occurs has a token that begins a word and one that continues it, even beyond `vocab_size`;
        a small corpus may not have enough pairs to reach it. Raises ValueError for a `vocab_size` below 100.
        """
        from tokenizers import models

        if vocab_size < 100:
            raise ValueError(f"vocab_size must be at least 100 (5 special tokens and characters), got {vocab_size}")
        words = bert_backend(models.BPE(), lowercase=case == "lower")
        vocabulary = {token: index for index, token in enumerate(learned_tokens(words, texts, vocab_size))}
        model = models.WordPiece(vocabulary, unk_token=SPECIAL["unk"])
        return cls(framed_as_bert(bert_backend(model, lowercase=case == "lower"), SPECIAL))

    @classmethod
    def from_vocabulary(cls, vocabulary: Path, companions: Companions | None = None) -> WordPieceTokenizer:
        """A `vocab.txt`, of one token a line, read as `tokenizer_config.json` beside it says.

        Raises ValueError naming a special token that it lacks.
        """
        from tokenizers import models

        companions = companions or Companions()
        said, names = companions.tokenizer, {name: companions.token(name) or own for name, own in SPECIAL.items()}
        try:
            model = models.WordPiece.from_file(str(vocabulary), unk_token=names["unk"])
        except Exception as error:  # the library raises nothing more precise
            raise ValueError(f"{vocabulary} is not a vocabulary of one token a line: {error}") from error
        backend = bert_backend(
            model,
            lowercase=said.get("do_lower_case", True),
            strip_accents=said.get("strip_accents"),
            chinese=said.get("tokenize_chinese_chars", True),
        )
        add_tokens(backend, companions, vocabulary)
        if lacking := [token for token in names.values() if backend.token_to_id(token) is None]:
            raise ValueError(f"{vocabulary} lacks the special token {lacking[0]}")
        return cls(framed_as_bert(backend, names), companions)

    @property
    def special(self) -> dict[str, int]:
        first, last = self.frame
        cls_and_sep = {"cls": first[0], "sep": last[-1]} if first and last else {}
        named = {"unk": self.unk, "pad": self.pad, "mask": self.mask} | cls_and_sep
        return {name: token for name, token in named.items() if token is not None}

    @cached_property
    def pieces(self) -> list[bytes]:
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        pieces = [b""] * (max(vocabulary.values()) + 1)
        for token, index in vocabulary.items():
            inner = token.startswith(INNER) and token != INNER
            joined = token.removeprefix(INNER) if inner else token if token in CLOSING else " " + token
            pieces[index] = joined.encode()
        return pieces

    def encode_words(self, words: Sequence[str]) -> tuple[Ids, Ids]:
        """As `Tokenizer.encode_words`; a word of which cleaning leaves nothing becomes the unknown token."""
        check_words(words)
        encoded = self._text.encode(list(words), is_pretokenized=True)
        ids = np.array(encoded.ids, np.int64)
        numbers = np.array([-1 if number is None else number for number in encoded.word_ids], np.int64)
        for missing in sorted({*range(len(words))} - {*numbers.tolist()}):
            later = np.flatnonzero(numbers > missing)
            place = later[0] if len(later) else len(ids) - len(self.frame[1])
            ids, numbers = np.insert(ids, place, self.unk), np.insert(numbers, place, missing)
        return ids, numbers


def is_wordpiece(description: Mapping[str, Any]) -> bool:
    """Whether a `tokenizer.json` describes one; older files do not name the type."""
    model = description.get("model") or {}
    return model.get("type") == "WordPiece" or ("max_input_chars_per_word" in model and "vocab" in model)


def learned_tokens(words: tokenizers.Tokenizer, texts: Iterable[str], vocab_size: int) -> list[str]:
    """The tokens of a vocabulary learned from texts, which `words` splits: special ones, characters, merged ones.

    They are merged as in byte-pair encoding, in words that begin with a mark. The library's own trainer for WordPiece
    numbers the characters that continue a word in an order that is another in every process.
    """
    from tokenizers import pre_tokenizers, trainers

    begin = pre_tokenizers.Metaspace(replacement=MARK, prepend_scheme="always", split=False)
    words.pre_tokenizer = pre_tokenizers.Sequence([words.pre_tokenizer, begin])
    words.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False))
    listed = words.get_vocab()
    found = [token for token in sorted(listed, key=listed.__getitem__) if token != MARK]
    characters = [token for token in found if len(token) == 1]
    single = [*characters, *(INNER + token for token in characters)]
    merged = [token.removeprefix(MARK) if token.startswith(MARK) else INNER + token for token in found]
    least = len(SPECIAL) + len(single)
    return list(dict.fromkeys([*SPECIAL.values(), *single, *merged]))[: max(least, vocab_size)]


def bert_backend(
    model: tokenizers.models.Model, lowercase: bool, strip_accents: bool | None = None, chinese: bool = True
) -> tokenizers.Tokenizer:
    """A model with BERT's way of cleaning a text and splitting it into words.

    strip_accents: by default as lowercase. chinese: whether each Chinese character is a word
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, normalizers, pre_tokenizers

    backend = Backend(model)
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=INNER)
    return backend


def framed_as_bert(backend: tokenizers.Tokenizer, names: Mapping[Special, str]) -> tokenizers.Tokenizer:
    """The same with [CLS] before a text, and [SEP] behind it and behind a second one."""
    from tokenizers import processors

    cls, sep = names["cls"], names["sep"]
    backend.add_special_tokens(list(names.values()))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(name, backend.token_to_id(name)) for name in (cls, sep)],
    )
    return backend
