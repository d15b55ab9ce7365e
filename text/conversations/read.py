"""Conversations from files: lists of `messages`, ShareGPT's `conversations`, Alpaca's `instruction` and `output`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from core.messages import first_line
from text.conversations.messages import Conversation, Message, Role
from text.conversations.skills import skills
from text.corpus.documents import BadText, Document, lines, plain_name
from text.corpus.sources import Data
from text.examples.parts import Bad, Parts, Rows, find_files, load_parts, only, usable

ROLES: dict[str, Role] = {"system": "system"}
ROLES |= {"user": "user", "human": "user"}
ROLES |= {"assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant"}
"""Who speaks, by the names that files give them."""
ADVICE = "; --skip-bad leaves such rows out"
ACCEPTED = (
    "accepted are skills, or .jsonl and .json files of rows with messages (role, content), conversations (from, "
    "value), or instruction, input and output"
)


@dataclass(frozen=True, eq=False)
class Conversations(Rows):
    """Conversations, each with at least one answer, none of which is empty."""

    messages: Sequence[Conversation]


def load_conversations(
    data: Data, *, validation: float = 0.1, validation_data: Data = "", bad: Bad = "refuse"
) -> Parts[Conversations]:
    """Conversations to train on and to validate on.

    data: skills, six of them made by rule (`text.conversations.skills`); or files of rows, one JSON object a line
        (.jsonl), or one list of them (.json)
    validation: the fraction that is held out, drawn by a fixed seed. Or validation_data, named like data.
    bad: whether a row that is no conversation is refused or left out, with a notice of how many

    Raises ValueError naming file and line for bad input.
    """
    return load_parts(partial(_read, bad=bad), data, validation, validation_data)


def read_conversations(data: Data, bad: Bad = "refuse") -> Conversations:
    """The conversations in files, all as one part."""
    return _read(data, bad)[0]


def _read(data: Data, bad: Bad) -> tuple[Conversations, str]:
    if only(data) == "skills":
        return Conversations(skills()), "skills"
    files = find_files(data, ("skills",), ACCEPTED)
    name = ", ".join(file.label for file in files)
    found = [each for file in files for each in usable(rows(file), bad, file.label)]
    return Conversations(found), name


def rows(file: Document) -> Iterator[Conversation | BadText]:
    """The conversations of a file in order, or what is wrong with one."""
    for label, row in objects(file):
        if isinstance(row, BadText):
            yield row
            continue
        for spoken in _spoken(row):
            try:
                yield conversation(spoken, label)
            except BadText as error:
                yield error


def objects(file: Document, accepted: str = ACCEPTED) -> Iterator[tuple[str, Any]]:
    """The rows of a file, each behind what an error calls it. Raises BadText for a .json file that is no list."""
    if file.path is not None and plain_name(file.path).endswith(".json"):
        try:
            listed = json.loads(b"".join(file.read()))
        except ValueError as error:
            raise BadText(file.label, "is not JSON", f": {first_line(error)}") from error
        if not isinstance(listed, list):
            raise BadText(file.label, "is no list of rows", f"; {accepted}")
        yield from ((f"row {number} of {file.label}", row) for number, row in enumerate(listed, 1))
        return
    for number, line in enumerate(lines(file), 1):
        label = f"line {number} of {file.label}"
        if isinstance(line, str) and not line.strip():
            continue
        try:
            yield label, line if isinstance(line, BadText) else json.loads(line)
        except ValueError as error:
            yield label, BadText(label, "is not JSON", f": {first_line(error)}{ADVICE}")


def _spoken(row: Any) -> list[list[tuple[Any, Any]] | None]:
    """The (role, content)s of each conversation of a row; None for a row that holds none."""
    match row:
        case {"messages": list(said)}:
            return [pairs_of(said, "role", "content")]
        case {"conversations": list(said)}:
            return [pairs_of(said, "from", "value")]
        case {"instruction": asked, "instances": [*instances]}:
            return [_instruction({"instruction": asked} | each) for each in instances if isinstance(each, dict)]
        case {"instruction": _, "output": _}:
            return [_instruction(row)]
    return [None]


def pairs_of(said: Sequence[Any], role: str, content: str) -> list[tuple[Any, Any]] | None:
    """The (role, content)s of messages whose fields have these names; None where one lacks them."""
    if not all(isinstance(each, Mapping) and role in each and content in each for each in said):
        return None
    return [(each[role], each[content]) for each in said]


def _instruction(row: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """An instruction, what it is about, if anything, and the answer."""
    about = row.get("input")
    asked = f"{row['instruction']}\n\n{about}" if about else row["instruction"]
    first = [("system", row["system"])] if row.get("system") else []
    return [*first, ("user", asked), ("assistant", row.get("output"))]


def conversation(spoken: Sequence[tuple[Any, Any]] | None, label: str) -> Conversation:
    """What was said, without white space around it, up to the last answer. Raises BadText for what is no conversation.

    label: what an error calls it
    """
    if spoken is None:
        raise BadText(label, "is no conversation", f": {ACCEPTED}{ADVICE}")
    messages = [_message(role, content, label) for role, content in spoken]
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    for number, message in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if message.role != expected:
            raise BadText(label, "is not said in turn", f": {message.role!r} speaks where {expected!r} should{ADVICE}")
    last = max((place for place, message in enumerate(messages) if message.role == "assistant"), default=-1)
    if last < 0:
        raise BadText(label, "has no answer", ADVICE)
    return tuple(messages[: last + 1])


def _message(role: Any, content: Any, label: str) -> Message:
    if not isinstance(role, str) or role not in ROLES:
        raise BadText(label, "has an unknown role", f": {role!r:.40}; known are {', '.join(ROLES)}{ADVICE}")
    if not isinstance(content, str):
        raise BadText(label, "has a message without text", f" but {content!r:.40}{ADVICE}")
    if not content.strip():
        what = "an empty answer" if ROLES[role] == "assistant" else "an empty message"
        raise BadText(label, f"has {what}", ADVICE)
    return Message(ROLES[role], content.strip())
