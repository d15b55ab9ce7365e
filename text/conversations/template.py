"""Chat templates: how a conversation is written down as one text, by the Jinja of a tokenizer's files or a named one.

A template can execute code; it is rendered in Jinja's sandbox, which lets it read what it is given and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from core.files.atomic import write_text
from core.messages import first_line, nearest
from text.conversations.messages import Conversation, Message
from text.tokens.base import Tokenizer
from text.tokens.library import LibraryTokenizer
from text.tokens.special import SAID, TEMPLATES, Companions, Special, render

FILE = TEMPLATES[0]
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TAGS = (
    "{% for message in messages %}"
    "{{ '<' + message['role'] + '>' + message['content'] + '</' + message['role'] + '>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
BUILT_IN = {"chatml": CHATML, "tags": TAGS}
MARKS = ("<|im_start|>", "<|im_end|>")
"""What a vocabulary that is learned for chatml holds as tokens of their own; the last ends an answer."""


class Written(NamedTuple):
    """A conversation as a text, and where in it each answer stands, what ends it included."""

    text: str
    answers: list[tuple[int, int]]


@dataclass(frozen=True)
class ChatTemplate:
    """A template. name: what an error calls it; tokens: how special tokens are written, `bos_token` and so on."""

    name: str
    source: str
    tokens: Mapping[str, str] = field(default_factory=dict)

    def prompt(self, messages: Sequence[Message]) -> str:
        """What was said, up to where the assistant's answer begins. Raises ValueError for a template that fails."""
        return self._render(messages, answer=True)

    def write(self, messages: Conversation) -> Written:
        """A whole conversation. Raises ValueError for a template that fails, or under which an answer has no place."""
        whole, answers = self._render(messages), []
        for place, message in enumerate(messages):
            if message.role == "assistant":
                before, after = self.prompt(messages[:place]), self._render(messages[: place + 1])
                if not (after.startswith(before) and whole.startswith(after) and len(before) < len(after)):
                    raise ValueError(
                        f"the chat template of {self.name} writes what was said before otherwise when more is said, so "
                        "that an answer has no place of its own; take another with --template"
                    )
                answers.append((len(before), len(after)))
        return Written(whole, answers)

    @cached_property
    def end(self) -> str:
        """What stands behind every answer, without white space around it; "" where nothing does."""
        asked = Message("user", "A question."), Message("assistant", SAID)
        return self._render(asked).partition(SAID)[2].strip()

    def save(self, folder: Path) -> None:
        """Writes it into a folder as other tools read it, atomically."""
        write_text(folder / FILE, self.source)

    def _render(self, messages: Sequence[Message], answer: bool = False) -> str:
        said = [message._asdict() for message in messages]
        try:
            return render(self.source, said, self.tokens, answer)
        except Exception as error:  # a template may do anything that its sandbox lets it
            raise ValueError(f"the chat template of {self.name} fails: {first_line(error)}") from error


def choose_template(name: str, tokenizer: Tokenizer) -> ChatTemplate:
    """The template of that name: chatml, tags, or a file; by default the tokenizer's own, or else chatml.

    Raises ValueError for a name that is none of these.
    """
    if not name:
        return own_template(tokenizer) or choose_template("chatml", tokenizer)
    if name in BUILT_IN:
        return ChatTemplate(name, BUILT_IN[name], _tokens(tokenizer))
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(f"template = {name!r} is not a file; {nearest(name, BUILT_IN)}")
    return ChatTemplate(name, path.read_text(encoding="utf-8"), _tokens(tokenizer))


def own_template(tokenizer: Tokenizer) -> ChatTemplate | None:
    """The template that came with a tokenizer, if one did. Raises ValueError for a damaged file."""
    try:
        found = _companions(tokenizer).chat_templates()
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"the chat template beside the tokenizer cannot be read: {first_line(error)}") from error
    return ChatTemplate("the tokenizer", found[0], _tokens(tokenizer)) if found else None


def saved_template(folder: Path, tokenizer: Tokenizer) -> ChatTemplate:
    """The template in a folder, of a run or of a public model. Raises ValueError where there is none."""
    if (folder / FILE).is_file():
        return choose_template(str(folder / FILE), tokenizer)
    if found := own_template(tokenizer):
        return found
    raise ValueError(f"{folder} has no chat template: it was not trained to answer")


def _companions(tokenizer: Tokenizer) -> Companions:
    return tokenizer.companions if isinstance(tokenizer, LibraryTokenizer) else Companions()


def _tokens(tokenizer: Tokenizer) -> dict[str, str]:
    """How special tokens are written, by the names that templates use."""
    names: tuple[Special, ...] = ("bos", "eos", "pad", "unk")
    return {f"{name}_token": _companions(tokenizer).token(name) or "" for name in names}


def special_names(tokenizer: Tokenizer) -> set[str]:
    """How the special tokens of a vocabulary are written, which no message may contain."""
    return tokenizer.special_names if isinstance(tokenizer, LibraryTokenizer) else set()


def check_message(message: Message, names: set[str]) -> None:
    """Raises ValueError for a message that contains one of the names of special tokens."""
    if found := next((name for name in names if name in message.content), None):
        raise ValueError(f"a message of {message.role!r} contains {found!r}, which is a token of the vocabulary")
