"""Preferences from files: a question and two answers to it, of which one is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from text.conversations.messages import Conversation
from text.conversations.read import ADVICE, conversation, objects, pairs_of
from text.corpus.documents import BadText, Document
from text.corpus.sources import Data
from text.examples.parts import Bad, Parts, Rows, find_files, load_parts, usable

ACCEPTED = (
    "accepted are .jsonl and .json files of rows with prompt, chosen and rejected, each a text or a list of messages "
    "(role, content), or chosen and rejected as whole conversations"
)


@dataclass(frozen=True, eq=False)
class Preferences(Rows):
    """Pairs of conversations that differ in their last answer."""

    chosen: Sequence[Conversation]
    rejected: Sequence[Conversation]


def load_preferences(
    data: Data, *, validation: float = 0.1, validation_data: Data = "", bad: Bad = "refuse"
) -> Parts[Preferences]:
    """Preferences to train on and to validate on; the options are those of `load_conversations`.

    Raises ValueError naming file and line for bad input.
    """
    return load_parts(partial(_read, bad=bad), data, validation, validation_data)


def read_preferences(data: Data, bad: Bad = "refuse") -> Preferences:
    """The preferences in files, all as one part."""
    return _read(data, bad)[0]


def _read(data: Data, bad: Bad) -> tuple[Preferences, str]:
    files = find_files(data, (), ACCEPTED)
    found = [pair for file in files for pair in usable(rows(file), bad, file.label)]
    return Preferences([one for one, _ in found], [two for _, two in found]), ", ".join(file.label for file in files)


def rows(file: Document) -> Iterator[tuple[Conversation, Conversation] | BadText]:
    """The pairs of a file in order, chosen first, or what is wrong with one."""
    for label, row in objects(file, ACCEPTED):
        if isinstance(row, BadText):
            yield row
            continue
        try:
            yield _pair(row, label)
        except BadText as error:
            yield error


def _pair(row: Any, label: str) -> tuple[Conversation, Conversation]:
    if not (isinstance(row, Mapping) and {"chosen", "rejected"} <= row.keys()):
        raise BadText(label, "is no preference", f": {ACCEPTED}{ADVICE}")
    chosen, rejected = (_whole(row.get("prompt"), row[side], label) for side in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise BadText(label, "has answers to different questions", ADVICE)
    if chosen == rejected:
        raise BadText(label, "has two answers that are the same", ADVICE)
    return chosen, rejected


def _whole(prompt: Any, answer: Any, label: str) -> Conversation:
    """A question, if it is apart, and an answer as a conversation."""
    first = [] if prompt is None else [("user", prompt)] if isinstance(prompt, str) else _listed(prompt)
    last = [("assistant", answer)] if isinstance(answer, str) else _listed(answer)
    return conversation(None if first is None or last is None else [*first, *last], label)


def _listed(said: Any) -> list[tuple[Any, Any]] | None:
    return pairs_of(said, "role", "content") if isinstance(said, list) else None
