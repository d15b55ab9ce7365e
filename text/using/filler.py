"""A trained model fills blanks: single tokens where a mask stands, or spans where sentinels do."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.decoding.filters import Sampling
from core.decoding.generate import complete
from text.corpus.sequences import frame_ids
from text.corruption.masking import Ids, masked_ids
from text.corruption.sentinels import SENTINEL, sentinel_ids
from text.corruption.spans import split_spans
from text.models.encoder import MaskedLM
from text.models.encoder_decoder import Seq2Seq
from text.tokens.base import Tokenizer
from text.tokens.library import LibraryTokenizer

GREEDY = Sampling(temperature=0)
MASKS = ("[MASK]", "<mask>")
"""How a hidden token is written, whatever a tokenizer calls it."""
SPAN = 20  # tokens of a filled span on average, at most


class Filling(NamedTuple):
    """What may stand in a blank, and its probability."""

    text: str
    probability: float


class MaskFiller:
    """The most probable tokens where a text has a mask, each mask by itself, the others being there.

    Raises ValueError for a model whose tokenizer has no mask.
    """

    def __init__(self, model: MaskedLM, tokenizer: Tokenizer, device: torch.device | str = "cpu"):
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.ids = check_mask(tokenizer, model.config.vocab_size)

    def fill(self, text: str, count: int = 5) -> list[list[Filling]]:
        """For each mask in a text, the `count` likeliest tokens, the likeliest first.

        Raises ValueError for a text without a mask, and for one that is longer than the model reads.
        """
        names = self._names()
        ids = encode_blanks(self.tokenizer, text, dict.fromkeys(names, self.ids.mask), self.model.config.vocab_size)
        places = [place for place, token in enumerate(ids) if token == self.ids.mask]
        if not places:
            raise ValueError(f"{text!r:.60} has no blank: write {' or '.join(names)} for what is to be filled in")
        if len(ids) > self.model.config.context:
            raise ValueError(f"the text has {len(ids)} tokens, the model reads {self.model.config.context}")
        with torch.inference_mode():
            row, at = (torch.tensor(values, device=self.device) for values in ([ids], places))
            logits: Tensor = self.model(row, None, at)[:, : self.tokenizer.vocab_size]  # (masks, V)
        likeliest = logits.float().softmax(-1).topk(min(count, logits.shape[1]))
        pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        return [[Filling(self.tokenizer.decode([token]), p) for token, p in zip(*both, strict=True)] for both in pairs]

    def _names(self) -> tuple[str, ...]:
        named = self.ids.mask < self.tokenizer.vocab_size
        own = self.tokenizer.piece(self.ids.mask).decode().strip() if named else MASKS[0]
        return tuple(dict.fromkeys([own, *MASKS]))


class SpanFiller:
    """The most probable spans where a text has <extra_id_0>, <extra_id_1> and so on, written by an encoder-decoder.

    Raises ValueError for a model that has no sentinels.
    """

    def __init__(self, model: Seq2Seq, tokenizer: Tokenizer, device: torch.device | str = "cpu", sentinels: int = 0):
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.sentinels = sentinel_ids(tokenizer, sentinels).ids
        if not self.sentinels or max(self.sentinels) >= model.config.vocab_size:
            raise ValueError(f"the model has no token {SENTINEL.format(0)}: it cannot fill blanks")

    def fill(self, text: str) -> list[str]:
        """What is written for each sentinel of a text, in its order; nothing for one that the model left out.

        Raises ValueError for a text without sentinels, and for one that is longer than the model reads.
        """
        used = [int(number) for number in re.findall(r"<extra_id_(\d+)>", text)]
        if used != [*range(len(used))] or not 0 < len(used) <= len(self.sentinels):
            most = SENTINEL.format(len(self.sentinels) - 1)
            raise ValueError(f"{text!r:.60}: blanks must be <extra_id_0>, <extra_id_1> and so on, {most} at most")
        marks = {SENTINEL.format(number): self.sentinels[number] for number in used}
        source = encode_blanks(self.tokenizer, text, marks, self.model.config.vocab_size)
        found = split_spans(self.write(source, len(used)), self.sentinels, self._ends())
        return [self._text(found.get(self.sentinels[number], [])) for number in used]

    def write(self, source: list[int], spans: int) -> list[int]:
        """The target of a source with so many sentinels, each token the most probable; the next sentinel ends it."""
        shape = self.model.config
        if len(source) > shape.context:
            raise ValueError(f"the text has {len(source)} tokens, the model reads {shape.context}")
        bound = self.model.bind(torch.tensor([source], device=self.device))
        most, stop = min(spans * SPAN + 1, shape.context - 1), [*self.sentinels[spans : spans + 1], *self._ends()]
        [found] = complete(bound, [[shape.start]], most, GREEDY, stop=stop, device=self.device)
        return found

    def _ends(self) -> list[int]:
        return [*{self.model.config.eos, *self.tokenizer.stops}]

    def _text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode([token for token in ids if token < self.tokenizer.vocab_size]).strip()


def build_filler(
    model: nn.Module, tokenizer: Tokenizer, device: torch.device | str = "cpu", sentinels: int = 0
) -> MaskFiller | SpanFiller:
    """The filler for a model. Raises ValueError for one that fills no blanks."""
    if isinstance(model, MaskedLM):
        return MaskFiller(model, tokenizer, device)
    if isinstance(model, Seq2Seq):
        return SpanFiller(model, tokenizer, device, sentinels)
    raise ValueError(f"a masked language model or one trained for denoising fills blanks, not a {type(model).__name__}")


def check_mask(tokenizer: Tokenizer, vocab_size: int) -> Ids:
    """The special tokens of a model. Raises ValueError where none of its tokens stands for a hidden one."""
    ids = masked_ids(tokenizer)
    if ids.mask >= vocab_size:
        raise ValueError(f"the tokenizer has no mask token among the model's {vocab_size:,}: it cannot fill blanks")
    return ids


def encode_blanks(tokenizer: Tokenizer, text: str, blanks: Mapping[str, int], vocab_size: int) -> list[int]:
    """The tokens of a text for a model with so many, with the ids of `blanks` where their names stand.

    A public tokenizer says itself what becomes of the space before a blank; elsewhere it is part of what fills the
    blank, but for characters and bytes.
    """
    if isinstance(tokenizer, LibraryTokenizer) and any(tokenizer.frame):
        for name, token in blanks.items():
            text = text.replace(name, tokenizer.piece(token).decode().strip())
        return tokenizer.encode_marked(text).ids.tolist()
    parts = re.split(f"({'|'.join(map(re.escape, blanks))})", text)  # what is between blanks, and their names, in turns
    if isinstance(tokenizer, LibraryTokenizer):
        parts = [part.removesuffix(" ") if place % 2 == 0 else part for place, part in enumerate(parts)]
    begin, end = frame_ids(tokenizer, vocab_size)
    pieces = [[blanks[part]] if place % 2 else encoded(tokenizer, part) for place, part in enumerate(parts)]
    return [*begin, *(token for piece in pieces for token in piece), *end]


def encoded(tokenizer: Tokenizer, part: str) -> list[int]:
    """The tokens of a part of a text, which may be empty."""
    return tokenizer.encode(part).tolist() if part else []
