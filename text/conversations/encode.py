"""Conversations as tokens, of which those of answers are learned, and several of them in one row."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.messages import notice
from text.conversations.messages import Conversation
from text.conversations.template import ChatTemplate, check_message, special_names
from text.corpus.sequences import Ragged, TooLong
from text.corpus.windows import IGNORED
from text.tokens.base import Ids, Tokenizer, UnknownCharacterError
from text.tokens.library import LibraryTokenizer

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Conversations as tokens. ids: of each; answered: 1 for tokens of answers, what ends them included, else 0."""

    ids: Ragged
    answered: Ragged

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, members: Sequence[int]) -> tuple[Ids, Ids, Ids]:
        """Conversations one after another: inputs, targets and numbers of the conversations, from 1, each int64 (T,).

        The target of a token is the next one of its conversation, if that is part of an answer, or else IGNORED.
        """
        inputs, targets, numbers = [], [], []
        for number, member in enumerate(members, 1):
            ids, answered = self.ids[member].astype(np.int64), self.answered[member].astype(bool)
            inputs.append(ids[:-1])
            targets.append(np.where(answered[1:], ids[1:], IGNORED))
            numbers.append(np.full(len(ids) - 1, number))
        return np.concatenate(inputs), np.concatenate(targets), np.concatenate(numbers)

    def batch(self, rows: Sequence[Sequence[int]], width: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """Rows padded to the longest, or to `width`: ids, targets and numbers of conversations, each int64 (b, T).

        The number of padding is 0.
        """
        made = [self.row(members) for members in rows]
        width = max(width, *(len(inputs) for inputs, _, _ in made))
        whole = np.zeros((3, len(rows), width), np.int64)
        whole[1] = IGNORED
        for place, row in enumerate(made):
            for part, values in enumerate(row):
                whole[part, place, : len(values)] = values
        ids, targets, numbers = torch.from_numpy(whole)  # each (b, T)
        return ids, targets, numbers


def encode_conversations(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    conversations: Sequence[Conversation],
    context: int,
    too_long: TooLong = "refuse",
    name: str = "conversation",
    learned: Literal["all", "last"] = "all",
) -> Encoded:
    """Conversations as a template writes them, of at most context + 1 tokens: all but the first are targets.

    too_long: whether a longer one is refused or cut, in either case with a target left (`kept_part`)
    name: what an error calls them
    learned: whether all answers are learned, or the last of each conversation

    Raises ValueError for one that is too long or cannot be written.
    """
    ids, answered, cut, names = list[Ids](), list[Flags](), 0, special_names(tokenizer)
    for number, messages in enumerate(conversations, 1):
        try:
            tokens, flags = encode_conversation(template, tokenizer, messages, names, learned)
        except ValueError as error:
            raise ValueError(f"{name} {number}: {error}") from error
        if len(tokens) > context + 1:
            if too_long == "refuse":
                raise ValueError(
                    f"{name} {number} has {len(tokens)} tokens, {context + 1} fit: allow a longer --model.context, or "
                    "--too-long truncate"
                )
            part, cut = kept_part(flags, context + 1), cut + 1
            tokens, flags = tokens[part], flags[part]
        ids.append(tokens)
        answered.append(flags)
    if cut:
        notice(f"{cut:,} of {len(conversations):,} sequences ({name}) are cut to {context + 1} tokens")
    return Encoded(Ragged.of(ids), Ragged.of(answered))


def encode_conversation(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    messages: Conversation,
    names: set[str],
    learned: Literal["all", "last"] = "all",
) -> tuple[Ids, Flags]:
    """The tokens of a conversation, and which are of answers, or of the last: int64 (T,), bool (T,).

    Raises ValueError for a message that contains one of the names of special tokens, and what cannot be written.
    """
    for message in messages:
        check_message(message, names)
    written = template.write(messages)
    ids, starts = encode_located(tokenizer, written.text)
    flags = np.zeros(len(ids), bool)
    for start, end in written.answers[-1:] if learned == "last" else written.answers:
        flags |= (starts >= start) & (starts < end)
    if len(ids) < 2 or not flags[1:].any():
        raise ValueError(f"the chat template of {template.name} leaves nothing to learn of it")
    return ids, flags


def encode_located(tokenizer: Tokenizer, text: str) -> tuple[Ids, Ids]:
    """The tokens of a text in which names of special tokens are these tokens, and the character at which each begins.

    Nothing is added before or after. 2 x int64 (T,). Raises ValueError for a text that the vocabulary cannot express.
    """
    if isinstance(tokenizer, LibraryTokenizer):
        return tokenizer.encode_located(text)
    try:
        ids = tokenizer.encode(text)
    except UnknownCharacterError as error:
        raise ValueError(f"{error}; the template adds marks of its own, --template tags the fewest") from error
    widths = [1] * len(text) if len(ids) == len(text) else [len(character.encode()) for character in text]
    return ids, np.repeat(np.arange(len(text)), widths)


def kept_part(flags: Flags, room: int) -> slice:
    """What is kept of a conversation that is too long: its beginning, if that has a target, or else as much as fits of
    what leads to the first answer, and of that answer up to a half of the room.

    flags: bool (T,), which tokens are of answers; the first of what is kept is never a target
    """
    if flags[1:room].any():
        return slice(0, room)
    first = 1 + int(flags[1:].argmax())
    rest = flags[first:]
    length = len(rest) if rest.all() else int((~rest).argmax())
    end = first + min(length, max(1, room // 2))
    return slice(max(0, end - room), end)


def pack(lengths: NDArray[np.int64], room: int) -> list[list[int]]:
    """Rows of conversations whose lengths add up to `room` at most: the longest first, each where least room is left.

    lengths: int64 (n,), each from 1 to room. Best-fit decreasing: at most 11/9 of the fewest rows and 4 (Johnson 1974).
    """
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (room left, row), in ascending order
    for member in np.argsort(-lengths, kind="stable").tolist():
        needed = int(lengths[member])
        place = bisect_left(free, (needed, -1))
        if place == len(free):
            rows.append([])
            left, row = room, len(rows) - 1
        else:
            left, row = free.pop(place)
        rows[row].append(member)
        if left > needed:
            insort(free, (left - needed, row))
    return rows
