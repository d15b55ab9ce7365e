"""What the tokenizers over the `tokenizers` library share: special tokens, frames, and files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from text.tokens.base import Framed, Ids, Tokenizer, check_words
from text.tokens.special import Companions, Special

if TYPE_CHECKING:
    import tokenizers

PADS, MASKS = ("[PAD]", "<pad>"), ("[MASK]", "<mask>")


class LibraryTokenizer(Tokenizer):
    """A tokenizer that the library runs.

    Text is only ever text: the name of a special token in it is encoded letter by letter, but for `encode_marked`.
    Special tokens are those that the companions name; padding and mask are also known by common names.
    """

    def __init__(self, backend: tokenizers.Tokenizer, companions: Companions | None = None) -> None:
        self._backend = backend
        self.companions = companions or Companions()
        backend.no_truncation()
        backend.no_padding()
        self._text = self._reading_text(backend)
        self.pad, self.mask = self._known("pad", PADS), self._known("mask", MASKS)

    def _reading_text(self, backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
        """The library's tokenizer, for which the name of a special token is text like any other."""
        backend.encode_special_tokens = True
        return backend

    def _named(self, name: Special) -> int | None:
        """The id of a special token, as the companions say it."""
        token, ids = self.companions.token(name), self.companions.ids(name)
        index = None if token is None else self._backend.token_to_id(token)
        return index if index is not None or not ids else ids[0]

    def _known(self, name: Literal["pad", "mask"], common: Iterable[str]) -> int | None:
        """The same, or else the special token of a common name."""
        added = self._backend.get_added_tokens_decoder().items()
        special = {token.content: index for index, token in added if token.special}
        named = self._named(name)
        return next((special[word] for word in common if word in special), None) if named is None else named

    def encode(self, text: str) -> Ids:
        """Token ids: int64 (T,). Raises ValueError for a lone surrogate."""
        text.encode()  # refuses what is not Unicode; the library's own message would not say so
        [encoded] = self._text.encode_batch_fast([text], add_special_tokens=False)
        return np.array(encoded.ids, np.int64)

    def encode_spans(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        """The encodings of texts, which know what characters each token spans."""
        return self._text.encode_batch(list(texts), add_special_tokens=False)

    @cached_property
    def frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        whole, plain = (self._text.encode("a", add_special_tokens=added).ids for added in (True, False))
        start = next(n for n in range(len(whole)) if whole[n : n + len(plain)] == plain)
        return tuple(whole[:start]), tuple(whole[start + len(plain) :])

    def encode_framed(self, text: str, pair: str | None = None) -> Framed:
        return self._framed(self._text, text, pair)

    def encode_marked(self, text: str, pair: str | None = None) -> Framed:
        return self._framed(self._marking, text, pair)

    def encode_located(self, text: str) -> tuple[Ids, Ids]:
        """The ids of a text in which the names of special tokens are these tokens, without any before or after it, and
        the character at which each begins: 2 x int64 (T,)."""
        text.encode()
        encoded = self._marking.encode(text, add_special_tokens=False)
        starts = [start for start, _ in encoded.offsets]
        return np.array(encoded.ids, np.int64), np.array(starts, np.int64)

    @property
    def special_names(self) -> set[str]:
        """How its special tokens are written."""
        return {token.content for token in self._backend.get_added_tokens_decoder().values() if token.special}

    def _framed(self, backend: tokenizers.Tokenizer, text: str, pair: str | None) -> Framed:
        (text + (pair or "")).encode()
        if pair is not None and not any(self.frame):
            raise ValueError(f"a {self.kind} tokenizer without special tokens cannot put two texts together")
        encoded = backend.encode(text, pair)
        return Framed(np.array(encoded.ids, np.int64), np.array(encoded.type_ids, np.int64))

    @cached_property
    def _marking(self) -> tokenizers.Tokenizer:
        """The same, but for the names of special tokens in a text, which are these tokens."""
        from tokenizers import Tokenizer as Backend

        return Backend.from_str(self.to_json())

    def encode_words(self, words: Sequence[str]) -> tuple[Ids, Ids]:
        check_words(words)
        owners = np.full(sum(map(len, words)) + len(words) - 1, -1)  # of the characters of the text
        starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
        for number, (start, word) in enumerate(zip(starts.tolist(), words, strict=True)):
            owners[start : start + len(word)] = number
        encoded = self._text.encode(" ".join(words))
        spans = zip(encoded.offsets, encoded.special_tokens_mask, strict=True)
        numbers = [-1 if special or start == end else owners[end - 1] for (start, end), special in spans]
        return np.array(encoded.ids, np.int64), np.array(numbers, np.int64)

    def to_json(self) -> str:
        """In the format of the `tokenizers` library, for other tools to read."""
        return self._backend.to_str()

    def beside(self, companions: Companions) -> Self:
        """The same encoding with other files beside it."""
        return type(self)(self._backend, companions)

    def save(self, folder: Path | str) -> None:
        """Writes `tokenizer.json` and its companions into a folder, each file atomically."""
        super().save(folder)
        self.companions.save(Path(folder))


def add_tokens(backend: tokenizers.Tokenizer, companions: Companions, origin: Path) -> None:
    """Adds the tokens beside the vocabulary in the file `origin`. Raises ValueError where they have other ids."""
    from tokenizers import AddedToken

    for index, (token, special) in sorted(companions.added().items()):
        backend.add_tokens([AddedToken(token, special=special, normalized=False)])
        if backend.token_to_id(token) != index:
            raise ValueError(f"{token} has the id {index} beside {origin}, which gives it another")
